# `make` lists what there is to do.

GO          ?= go
STATICCHECK ?= $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
BENCHSTAT   ?= $(GO) run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
COUNT       ?= 10
BENCH       ?= .
BENCHTIME   ?= 0.3s
FUZZTIME    ?= 30s
DURATION    ?= 1m
SEED        ?= 0
DATABASE    ?= postgres
STRICT      ?= true

# Modules of their own: what they test with is no dependency of alkey.
MODULES     = internal/datalayers txscope/internal/sqltext/oracle

.PHONY: help test check lint tidy servers bench explore fuzz soak compat run

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

test: servers ## run all tests with the race detector; starts the servers that they need
	$(GO) test -race -shuffle=on -p 3 -parallel 4 ./...
	@out=$$($(GO) test -run 'TestExplore$$' -v ./tokens) || { echo "$$out"; exit 1; }; \
	echo "$$out" | sed -n 's/.*: \([0-9]* distinct states in all\)/TestExplore: \1/p'
	@for m in $(MODULES); do echo "module $$m"; (cd $$m && $(GO) test -race ./...) || exit 1; done

check: lint tidy test ## what must be green before a change is merged

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "gofmt -w is needed on:"; echo "$$unformatted"; exit 1; fi
	@for m in . $(MODULES); do echo "vet and staticcheck: $$m"; (cd $$m && $(GO) vet ./... && $(STATICCHECK) ./...) || exit 1; done

tidy: ## go.mod and go.sum say what is used
	@for m in . $(MODULES); do (cd $$m && $(GO) mod tidy -diff) || exit 1; done

servers: ## install Redis, PostgreSQL and MariaDB where that is possible and needed
	@.ci/servers

bench: servers ## all benchmarks, beside their baselines where there are any: BENCH=regexp COUNT=10 BENCHTIME=0.3s
	@rm -f bench.out
	@for i in $$(seq $(COUNT)); do \
		echo "round $$i of $(COUNT)"; \
		$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./... >>bench.out || { cat bench.out; exit 1; }; \
	done
	$(BENCHSTAT) -filter '/by:/./ -/by:turns' -col /by bench.out
	@echo; echo "Without a baseline:"
	$(BENCHSTAT) -filter '-/by:/./' bench.out
	@echo; echo "In turns, which is what to compare on a machine that is now faster and now slower:"
	$(BENCHSTAT) -filter '/by:turns .unit:(baseline-sec OR alkey-sec OR ratio)' -col /by bench.out

explore: ## the exhaustive exploration of the protocol in its full setting: about three minutes; prints the states
	ALKEY_EXPLORE=full $(GO) test -run 'TestExplore$$' -v -timeout 60m ./tokens

fuzz: ## every fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

soak: servers ## faults for DURATION=1m, at random by SEED=0 (0: another each time), over DATABASE=postgres or sqlite, with STRICT=true or false: no value may be stale
	$(GO) test -run '^Test(Soak|On)$$' -count 1 -v -timeout 0 ./internal/rig -rig.duration $(DURATION) -rig.seed $(SEED) -rig.database $(DATABASE) -rig.strict=$(STRICT)

compat: ## the test suites of sqlx and GORM over the bare and over the wrapped drivers
	@.ci/compat

run: ## the example application on http://localhost:8080
	$(GO) run ./example/app
