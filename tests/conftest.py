"""What has to be set before anything imports torch or Triton.

One thread for torch in every test: on a busy machine two threads spend their time waiting for each other. And where
there is no GPU, Triton's interpreter, which runs the kernels on the CPU.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
