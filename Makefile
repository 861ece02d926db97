# Every command is one of tools/make.py, which also runs where there is no make.
PYTHON ?= python3
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: book test lab serve bench lock clean setup
book test lab serve bench lock clean setup:
	@$(PYTHON) tools/make.py $@
