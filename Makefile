# Every command is one of tools/make.py, which also runs where there is no make.
PYTHON ?= python3
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: book test lab serve bench lock clean setup release collect grade feedback export
book test lab serve bench lock clean setup:
	@$(PYTHON) tools/make.py $@

# make release SET=ps1 SEED=2027, make collect SET=ps1 FROM=~/Downloads/ps1, make grade SET=ps1, make feedback SET=ps1, make export
release collect grade feedback export:
	@$(PYTHON) tools/make.py $@ $(if $(SET),--set "$(SET)") $(if $(SEED),--seed "$(SEED)") $(if $(FROM),--from "$(FROM)") \
		$(if $(COURSE),--course "$(COURSE)") $(OPTIONS)
