package conf

type Path string
