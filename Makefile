# `make demo` and `make test` set everything up by themselves: Python 3.11+, git and make suffice.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := demo/tiny/version_0

.PHONY: demo test check clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rnafm needs Python 3.11 or newer; name one: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Pretrain a small encoder on the shipped sample for about two minutes, then look at the result.
demo: $(STAMP)
	rm -rf demo
	$(BIN)/rnafm fit --config configs/pretrain/tiny.yaml --config configs/trainer/cpu.yaml \
	  --trainer.logger.init_args.save_dir demo --data.store demo/store
	$(BIN)/rnafm fill-mask --checkpoint $(RUN)/checkpoints/last.ckpt \
	  "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGU<mask>CGAUCCACAGAAUUCGCACCA"
	@echo
	@echo "Loss curve:   $(RUN)/loss.png"
	@echo "Metrics:      $(RUN)/metrics.csv"
	@echo "Settings:     $(RUN)/fit.yaml"
	@echo "Checkpoint:   $(RUN)/checkpoints/last.ckpt"
	@echo "Next:         $(BIN)/rnafm embed --checkpoint $(RUN)/checkpoints/last.ckpt \\"
	@echo "                --fasta examples/ncrna_sample.fa.gz --too-long crop --out demo/embeddings.npz"

test: check

check: $(STAMP)
	BIN=$(BIN) sh scripts/check.sh

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
