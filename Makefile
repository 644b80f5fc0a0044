# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run build tools generate check test soak bench clean
SHELL := /bin/bash

# How long `make soak` runs, and when it is given up (0: never); what `make test` gives each fuzz target.
SOAK ?= 10m
SOAK_TIMEOUT ?= 0
FUZZTIME ?= 3s

run: build tools ## run the sample: Envoy, issuer, authorizer, control plane, two services
	@exec bin/gatehouse run --sample --config sample/gatehouse.yaml

build: ## build bin/gatehouse
	@scripts/need go
	@go build -trimpath -o bin/gatehouse ./cmd/gatehouse

tools: ## fetch Envoy, unless $ENVOY or the PATH has a supported one
	@scripts/envoy >/dev/null

generate: ## generate code and the reference page
	@scripts/need go python3
	@scripts/generate

check: ## format, vet, lint, import direction, generated files, vulnerabilities
	@scripts/need go python3
	@scripts/check

test: build tools ## all tests with -race, Rego tests, end to end, a short fuzzing
	@FUZZTIME=$(FUZZTIME) scripts/test

soak: build tools ## load, faults and kill loops for SOAK=10m
	@GATEHOUSE_SOAK=$(SOAK) go test -tags soak ./e2e -run Soak -count=1 -timeout $(SOAK_TIMEOUT) -v

bench: build ## what checks and tokens cost, against the least possible; writes docs/performance.md
	@go run ./internal/bench -gatehouse bin/gatehouse -write docs/performance.md

clean: ## remove what was built and fetched; keeps data folders
	@rm -rf bin .tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
