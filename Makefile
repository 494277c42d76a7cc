# The commands of daily work; the same ones run in CI (.ci/run).
#
#   make build    the static binary, bin/ringfort
#   make check    formatting, vet and lint
#   make test     unit tests under the race detector, then short end-to-end tests
#   make e2e      the long end-to-end tests
#   make fuzz     every fuzz target for FUZZTIME
#   make bench    the table of docs/benchmarks.md, in bin/bench
#   make deps     the client programs that end-to-end tests use

GO       ?= go
FUZZTIME ?= 10s
E2E_PARALLEL ?= 3
# How long each figure of "make bench" takes.
BENCHTIME ?= 60s

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# End-to-end tests start processes of their own, which the race detector of the
# test does not see: they run apart.
UNIT = $$($(GO) list ./... | grep -v '^ringfort/e2e')

.PHONY: all build check fmt vet lint test unit e2e-short e2e fuzz bench microbench deps clean

all: check build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ringfort ./cmd/ringfort

check: fmt vet lint

fmt:
	@bad=$$(gofmt -l .); \
	if [ -n "$$bad" ]; then echo "not formatted by gofmt:"; echo "$$bad"; exit 1; fi

vet:
	$(GO) vet ./...

lint:
	$(GO) run $(STATICCHECK) ./...

test: unit e2e-short

unit:
	$(GO) test -race -timeout 15m $(UNIT)

# Not out of the cache: it does not know that these tests build the program. A few
# more at a time than two processors would get by default, as they wait for disks.
E2E = $(GO) test -count=1 -parallel $(E2E_PARALLEL)

e2e-short: deps
	$(E2E) -timeout 20m ./e2e/...

e2e: deps
	RINGFORT_E2E=long $(E2E) -timeout 6h -v ./e2e/...

# One target after another: they share the machine's processors as it is.
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

bench:
	mkdir -p bin/bench
	RINGFORT_BENCH=$(BENCHTIME) RINGFORT_BENCH_OUT=$(CURDIR)/bin/bench \
		$(GO) test -count=1 -timeout 6h -v -run TestBench ./e2e/bench

# The benchmarks of single packages, in the form that benchstat compares.
microbench:
	$(GO) test -run '^$$' -bench . -benchmem $(UNIT)

deps:
	./e2e/install-clients

clean:
	rm -rf bin
