# Every target sets up what it needs, and does nothing where that is there already.
# ARGS goes to the command: make test ARGS="-k cookie", make demo ARGS="--port 9000".
# PYTHON chooses the interpreter of .venv: make test PYTHON=python3.13.

ARGS =
BIN = .venv/bin
TWO = -n 2 --dist loadfile
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test check bench mutants suites pins clean venv-demo venv-dev venv-oldest oldest system

help: ## print these lines
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

demo: venv-demo ## run the demo site: register, log in, look at your session
	$(BIN)/coatcheck demo $(ARGS)

test: system ## run every test, in two processes; without ARGS, `make oldest` too
	$(BIN)/python -m pytest $(TWO) $(ARGS)
	$(if $(ARGS),,@$(MAKE) oldest)

oldest: venv-oldest ## run the frameworks' tests with the oldest versions supported
	.venv-oldest/bin/python -m pytest $(TWO) -W default -m "not every_store" tests/test_outside_laws.py tests/frameworks $(ARGS)

check: venv-dev ## lint, check the formatting and the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: venv-dev ## measure coatcheck beside other session libraries and plain drivers
	@tools/system servers
	$(BIN)/python -m benchmarks $(ARGS)

suites: venv-dev ## run the frameworks' own tests of sessions against ours
	$(BIN)/python -m tests.suites $(ARGS)

mutants: venv-dev ## break each law on purpose, see its test fail
	$(BIN)/python -m tests.mutants $(ARGS)

pins: ## write constraints.txt anew, with today's versions
	@tools/pins

clean: ## remove .venv, caches and artifacts
	rm -rf .venv .venv-oldest .suites .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist artifacts
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

venv-demo venv-dev venv-oldest: venv-%:
	@tools/venv $*

system: venv-dev
	@tools/system
