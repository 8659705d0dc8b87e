"""One thread for torch in every test: on a busy machine two threads spend their time waiting for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
