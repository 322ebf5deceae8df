# A short front for Meson (meson.build). Everything made lies under build/; every target asks setup.sh for what it needs and no more.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help build run test soak bench bench-keys bench-ml reliability llm clean-room clean

help:
	@echo 'make run     set up, build, `tollgate init` once, serve on 127.0.0.1:9001 (and :8000, :8765 where free)'
	@echo 'make build   build/tollgate'
	@echo 'make test    unit, black-box, sanitizer and fuzz tests; the last line is the sum'
	@echo 'make soak    the long forms: fuzzing, faults (SOAK_SECONDS=3600)'
	@echo 'make bench   measured beside nginx and HAProxy (docs/benchmarks.md)'
	@echo 'make bench-keys   CPU per request with 10 to a million keys in the database'
	@echo 'make bench-ml   training and prediction beside the service of document 003'
	@echo 'make reliability   what faults cost: kills, hangs, floods (docs/reliability.md)'
	@echo 'make llm     a real small language model behind the gate, as gemma3'
	@echo 'make clean-room   both commands of the README in a bare Debian 12 (as root)'
	@echo 'make clean   removes build/'

build:
	@sh scripts/setup.sh run
	@sh scripts/build.sh release

run: build
	@[ -e data/keys.env ] || build/tollgate init
	@exec build/tollgate serve --also 127.0.0.1:8000 --also 127.0.0.1:8765

test:
	@sh scripts/setup.sh test
	@bash tests/run.sh

soak:
	@sh scripts/setup.sh test
	@bash tests/run.sh soak

bench:
	@sh scripts/setup.sh bench
	@sh scripts/build.sh release
	@bash tests/bench/run.sh

reliability:
	@sh scripts/setup.sh test
	@sh scripts/build.sh release
	@build/venv/bin/python tests/bench/reliability.py

bench-keys:
	@sh scripts/setup.sh bench
	@sh scripts/build.sh release
	@python3 tests/bench/keys.py

bench-ml:
	@sh scripts/setup.sh bench
	@sh scripts/build.sh release
	@python3 tests/bench/ml.py

llm:
	@sh scripts/setup.sh llm
	@sh scripts/build.sh release
	@exec sh scripts/llm.sh

clean-room:
	@sh scripts/setup.sh clean-room
	@bash scripts/clean-room.sh

clean:
	rm -rf build
