// What the clients of this folder share: they tell the test which address a
// person's browser has to open, and wait until it comes back to them.
//
//   OPEN <address>      on standard output: log somebody in there
//   RESULT <json>       what the client found out, at the end
import http from 'node:http'

export const settings = JSON.parse(process.argv[2])

// comesBack resolves with the address that the browser is sent to.
export function comesBack(redirect) {
  const at = new URL(redirect)
  return new Promise((resolve, reject) => {
    const server = http.createServer((request, response) => {
      const address = new URL(request.url, redirect)
      if (address.pathname !== at.pathname) {
        response.writeHead(404).end()
        return
      }
      response.writeHead(200, { 'content-type': 'text/plain', connection: 'close' }).end('done\n')
      server.close()
      resolve(address)
    })
    server.on('error', reject)
    server.listen(Number(at.port), at.hostname)
  })
}

export function open(address) {
  console.log(`OPEN ${address}`)
}

export function result(found) {
  console.log(`RESULT ${JSON.stringify(found)}`)
}

// expect fails where a promise does not reject with this OAuth error.
export async function refused(code, promise) {
  try {
    await promise
  } catch (error) {
    if (error.error === code) return
    throw new Error(`refused with ${error.error ?? error}, not ${code}`, { cause: error })
  }
  throw new Error(`not refused, though ${code} is due`)
}
