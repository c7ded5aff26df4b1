# What can be made here. It needs Go, Python 3.11 or newer, git and make.
# A C compiler is used where there is one: for NVML and for the race detector.

GO           ?= go
CC           := $(shell $(GO) env CC)
HAS_CC       := $(shell echo 'int main(void) { return 0; }' | $(CC) -x c -o /dev/null - 2>/dev/null && echo 1)
VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
DEVSTACK     := devstack/bin/warpket-devstack
MINIO        := .cache/minio-20260212/minio
RUNSC        := .cache/runsc-20260905/runsc
GRPCIO_TOOLS := 1.85.0 # whose protoc is 35.1
RUFF         := 0.17.5
UV           := $(GO) run ./tools/uv
GENERATED    := channel/wire/channel.pb.go channel/wire/channel_grpc.pb.go api/openapi.yaml api/openapi-3.0.yaml clients/go/client.gen.go

export CGO_ENABLED := $(if $(HAS_CC),1,0)
export CGO_CFLAGS  := -O2 -g -Wno-deprecated-declarations # go-nvml warns
export GOFLAGS     := $(strip $(GOFLAGS) -buildvcs=false)
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help build run test test-gpu lint fmt generate bench bench-gpu e2e clean devstack \
	bin/warpket lint-go lint-devstack lint-workflows lint-python lint-generated

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: bin/warpket devstack ## build bin/warpket and bin/warpket-devstack

bin/warpket:
	@echo "building warpket$(if $(HAS_CC),, without NVML: there is no C compiler)"
	@$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./cmd/warpket

devstack: bin/warpket-devstack

bin/warpket-devstack: $(DEVSTACK)
	@mkdir -p bin && ln -f $< $@ 2>/dev/null || cp -f $< $@

$(DEVSTACK): $(filter-out %_test.go,$(wildcard devstack/*.go)) devstack/go.mod devstack/go.sum
	@echo "building the devstack (Temporal, a few minutes the first time)"
	@cd devstack && $(GO) build -ldflags "-s -w" -o bin/warpket-devstack .

run: build ## run all of it on this machine (ARGS="--listen HOST:PORT" for more)
	@exec bin/warpket dev $(ARGS)

# The devstack's tests do without the race detector: compiling Temporal with it takes too long.
test: build $(MINIO) $(RUNSC) ## run all tests (PKG=./api TEST="-run X" for some)
	@echo "testing $(if $(HAS_CC),with the race detector,without the race detector: there is no C compiler)"
	WARPKET_TEST_MINIO=$(abspath $(MINIO)) WARPKET_TEST_RUNSC=$(abspath $(RUNSC)) $(GO) run ./teststack/with -- $(GO) test $(if $(HAS_CC),-race) -timeout 45m $(TEST) $(or $(PKG),./...)
	$(if $(PKG),,cd devstack && $(GO) test -timeout 15m ./...)

$(MINIO):
	@echo "building MinIO, which the storage tests need (two minutes the first time)"
	@GOBIN=$(abspath $(@D)) $(GO) install -ldflags "-s -w" github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

# It starts itself again where there is no library to load: hence without cgo.
$(RUNSC):
	@echo "building runsc, which the tests of gVisor need (two minutes the first time)"
	@CGO_ENABLED=0 GOBIN=$(abspath $(@D)) $(GO) install -ldflags "-s -w" gvisor.dev/gvisor/runsc@v0.0.0-20260905035102-160fafc42237

lint: lint-go lint-devstack lint-workflows lint-python lint-generated ## check the code

lint-go:
	@echo "checking the Go code"
	@$(GO) tool -modfile=tools/lint.mod golangci-lint run ./...

lint-devstack:
	@echo "checking the Go code of the devstack"
	@cd devstack && $(GO) tool -modfile=../tools/lint.mod golangci-lint run ./...

lint-workflows:
	@echo "checking that workflows are deterministic"
	@$(GO) tool -modfile=tools/lint.mod workflowcheck ./workflows

lint-python:
	@echo "checking the Python code"
	@$(UV) tool run -q ruff@$(RUFF) check -q
	@$(UV) tool run -q ruff@$(RUFF) format -q --check

lint-generated:
	@echo "checking that what is generated is up to date"
	@before=$$(cat $(GENERATED) | git hash-object --stdin) && $(MAKE) -s generate && \
		if [ "$$before" != "$$(cat $(GENERATED) | git hash-object --stdin)" ]; then \
			git --no-pager diff --stat -- $(GENERATED); echo "these files were out of date; make generate has written them: commit them"; exit 1; fi

fmt: ## format the code
	@$(GO) tool -modfile=tools/lint.mod golangci-lint fmt ./...
	@cd devstack && $(GO) tool -modfile=../tools/lint.mod golangci-lint fmt ./...
	@$(UV) tool run -q ruff@$(RUFF) check -q --fix --exit-zero
	@$(UV) tool run -q ruff@$(RUFF) format -q

generate: ## write the generated files: node channel, OpenAPI, clients
	@tool() { $(GO) tool -n -modfile=tools/generate.mod $$1; } && \
		go=$$(tool protoc-gen-go) && grpc=$$(tool protoc-gen-go-grpc) && cd channel/wire && \
		$(GO) run ../../tools/uv run -q --no-project --with grpcio-tools==$(GRPCIO_TOOLS) python -m grpc_tools.protoc -I . channel.proto \
			--plugin=protoc-gen-go=$$go --go_out=. --go_opt=paths=source_relative \
			--plugin=protoc-gen-go-grpc=$$grpc --go-grpc_out=. --go-grpc_opt=paths=source_relative
	@mkdir -p .cache
	@$(GO) run ./tools/openapi > .cache/openapi.yaml && mv .cache/openapi.yaml api/openapi.yaml
	@$(GO) run ./tools/openapi 3.0 > .cache/openapi.yaml && mv .cache/openapi.yaml api/openapi-3.0.yaml
	@$(GO) tool -modfile=tools/generate.mod oapi-codegen -config clients/go/oapi-codegen.yaml api/openapi-3.0.yaml

# The test program needs nothing beside it, so it can be taken to a machine without
# Go. Without cgo there is no NVML, and no test either.
test-gpu: ## test with this machine's GPU (bin/gpu.test also runs alone)
	@if command -v $(GO) > /dev/null; then \
		if [ "$(CGO_ENABLED)" != 1 ]; then echo "the tests with a GPU need a C compiler, for NVML is read through cgo: install one (gcc), or set CC"; exit 1; fi; \
		$(GO) test -c -o bin/gpu.test ./accelerators; fi
	@cd accelerators && WARPKET_TEST_GPU=1 ../bin/gpu.test -test.v -test.run 'GPUsAreRead|OnTheCard'

bench: build ## measure, see bench/README.md (ARGS="..." for its flags)
	$(GO) run ./bench $(ARGS)

bench-gpu: ## check and measure the templates for GPUs on a running product with one (ARGS=-check only checks)
	$(GO) run ./bench/gpu $(ARGS)

e2e: build ## try the built product as a user has it
	$(GO) test -count=1 -timeout 45m $(TEST) ./e2e/...

clean: ## remove what was built, not the data of "make run"
	rm -rf bin devstack/bin .cache
