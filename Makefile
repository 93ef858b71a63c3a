# The front door: `make run` and `make test` are all that a fresh machine needs.

CHECK = .venv/bin/python scripts/check.py

.PHONY: help run test check bench bench-peers docs venv dev clean

help:
	@echo 'make run    start a Tabby gateway on 127.0.0.1:9000 with a token kept in .state/; Ctrl-C ends it'
	@echo 'make venv   install the program in .venv/, as .venv/bin/gateway'
	@echo 'make test   install what the tests need, then run every check and every test'
	@echo 'make check  lint, types, unit tests and documentation; needs no other programs'
	@echo 'make bench  measure ours beside its peers; results in bench/results/'
	@echo 'make bench-peers  install the tunnels that ours is measured beside; needs go and cargo'
	@echo 'make docs   build the documentation in docs/_build/html/'
	@echo 'make dev    bring .venv/ up to date with everything that a developer needs'
	@echo 'make clean  remove all that the other commands made, except .state/'

run: venv
	@.venv/bin/gateway tabby --state .state

test: dev
	@$(CHECK) --all

check: dev
	@$(CHECK) ruff mypy unit docs api

bench: dev
	@scripts/gopeers
	@.venv/bin/python -m bench.tabby
	@.venv/bin/python -m bench.yamux
	@.venv/bin/python -m bench.tunnel
	@.venv/bin/python -m bench.http
	@.venv/bin/python -m bench.network_relay
	@.venv/bin/python -m bench.pipegate

bench-peers:
	@scripts/benchpeers

docs: dev
	@$(CHECK) docs api

venv:
	@scripts/venv .venv

dev:
	@scripts/venv .venv test,lint,docs

clean:
	rm -rf .venv .venv-* .peers .mypy_cache .ruff_cache .hypothesis _trial_temp* build dist docs/_build *.egg-info
	find gateway tests bench scripts twisted tac \( -name __pycache__ -o -name dropin.cache \) -prune -exec rm -rf {} +
