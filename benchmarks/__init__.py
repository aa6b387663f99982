"""Speed beside its yardsticks: `make bench`, run from the project's folder."""

import os

# before torch is imported: one thread, as in the book, and no messages from its profiler
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "7")
