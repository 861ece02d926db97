"""The problem sets: one source each, from which come the student's notebook, the solution and the grades.

`release` makes notebooks from a source, `collect` puts what students hand in into one form, `grade` marks it: each
submission runs in a confined process of its own (`worker`, `sandbox`), and this side, which holds the checks and the
right answers, sees nothing of it but the values that its functions return (`wire`).
"""
