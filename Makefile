# `make test` needs nothing beforehand but Go: it sets up what it is missing, or says how to.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# Two test binaries at a time beside each other: most of them wait for servers. They are linked
# faster without what only a debugger needs.
TEST_FLAGS ?= -p 2 -ldflags='-s -w'
PACKAGES = $$(go list ./... | grep -v /integration)
# The rooms that take longest begin at once, beside the others; go vet has its own target.
ROOMS = $$(go list ./integration/... | grep -vE '/integration/(relay|security|inbox)$$')
ROOM_TEST = go test -vet=off -ldflags='-s -w' -timeout 15m -p 1
# What runs with the race detector: all packages but the demo and those that only ask servers,
# print or measure.
RACED = $$(go list ./... | grep -vE '/(integration|examples|cmd)|/internal/(bench|demo|preflight|operator|schema|sandbox|config|access|prose)$$')
# The tests with the tag more.
MORE = $$(sed -n 's/^func \(Test[A-Za-z0-9]*\)(.*/\1$$/p' integration/*/*_more_test.go | paste -sd '|')

.PHONY: help
help: ## show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## fetch or install what the tests need
	./integration/setup.sh

.PHONY: test
test: setup ## every test but those of test-more and test-long, on real servers
	go run ./integration/servers \
	  -- $(ROOM_TEST) ./integration/relay \
	  -- $(ROOM_TEST) ./integration/security ./integration/inbox \
	  -- $(ROOM_TEST) $(ROOMS) \
	  -- go test -vet=off -timeout 15m $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-more
test-more: setup ## the packages, relays and consumers with the race detector, and the tests with the tag more
	RELAY_TEST_RACE=1 go run ./integration/servers \
	  -- $(ROOM_TEST) -count=1 -tags more -run "KilledAtEveryStep|$(MORE)" ./integration/relay ./integration/inbox ./integration/bench \
	  -- go test -vet=off -race -timeout 15m $(TEST_FLAGS) $(RACED)

.PHONY: test-long
test-long: setup ## every test, the long ones too: crash loops, clusters of three, large backlogs
	RELAY_TEST_WRITERS=12 RELAY_TEST_BACKLOG_ROWS=2000000 RELAY_TEST_KILLS=48 RELAY_TEST_POISON_KEYS=10000 go run ./integration/servers \
	  -- go test -race -timeout 90m -tags long,more $(TEST_FLAGS) ./...

.PHONY: test-examples
test-examples: setup ## the examples in Go, Java and Python on real servers; needs a JDK, and Python with pip
	go test -count=1 -timeout 20m -tags examples -v ./integration/examples

.PHONY: test-alerts
test-alerts: setup ## the cases of the alert rules, and a real Prometheus over a real run; fetches Debian's if there is none
	deploy/prometheus/test.sh

.PHONY: bench
bench: setup ## what relay bench and relay bench insert measure, on its own servers, and the hot paths
	go test -count=1 -timeout 30m -tags bench -run 'TestBenchBeside|TestBenchInsert' -v ./integration/bench
	go test -run '^$$' -bench . ./internal/checkpoint ./internal/outboxread ./internal/position ./partitioning ./outbox/internal/event

.PHONY: bench-conditions
bench-conditions: setup ## a drain with 20 million published rows behind it, and with a transaction open meanwhile
	go test -count=1 -timeout 60m -tags bench -run TestBenchUnder -v ./integration/bench

.PHONY: bench-inbox
bench-inbox: setup ## what the inbox costs beside bare writes, with up to 50 million marks, and the consumer on Kafka; 20 minutes
	go test -count=1 -timeout 90m -tags bench -run TestBenchInbox -v ./integration/bench

.PHONY: bench-retention
bench-retention: setup ## millions of rows through both layouts with a short retention: sizes, dead rows, log a row; 15 minutes
	go test -count=1 -timeout 60m -tags bench -run 'TestRetention|TestDrainWithRetention' -v ./integration/bench

.PHONY: bench-peers
bench-peers: setup ## the relay beside Debezium on Kafka Connect and a home-made poller: bench-peers/peers.jsonl; 30 minutes
	RELAY_TEST_PEERS_OUT=$${RELAY_TEST_PEERS_OUT:-$(CURDIR)/bench-peers} \
	  go test -count=1 -timeout 120m -tags bench -run TestBenchPeers -v ./integration/bench/peers

.PHONY: test-unit
test-unit: ## the tests outside of integration/: no Kafka is started
	go test -timeout 10m $(TEST_FLAGS) $(PACKAGES)

.PHONY: vet
vet: ## go vet, with every build tag
	go vet ./...
	go vet -tags failpoint,long,more,bench,examples,alerts ./...
	go vet -tags release ./cmd/relay

.PHONY: lint
lint: ## golangci-lint with .golangci.yml; the first run builds it
	go run $(GOLANGCI_LINT) run ./...

.PHONY: build
build: ## the command with the demo, as bin/relay
	go build -trimpath -o bin/relay ./cmd/relay

.PHONY: release
release: ## the command as it is shipped: without the demo, its downloader and its simulated broker; as dist/relay
	CGO_ENABLED=0 go build -trimpath -tags release -ldflags '-s -w' -o dist/relay ./cmd/relay

.PHONY: demo
demo: ## the main job on throw-away servers, with crashes on the way
	go run ./cmd/relay demo

.PHONY: clean
clean: ## remove what was built; fetched servers stay in the cache
	rm -rf bin dist
