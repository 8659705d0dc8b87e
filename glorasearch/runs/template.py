"""The commented run file that `glorasearch init` writes; every value in it is the default."""

from __future__ import annotations

import json

TEMPLATE = """# A run of glorasearch: `glorasearch run THIS_FILE`. `--set search.trials=200` overrides a value.
# Relative paths are taken from this file's folder. Every value here is the default; what is commented out has none.
name = {name}
seed = 0
device = "auto"                 # auto | cpu | cuda | cuda:1
# threads = 4                   # of torch on the CPU, here and in each worker
compile = "auto"                # auto | on | off; on GPUs, training step and candidates compiled and captured

[backbone]
name = {backbone}
                                # a timm name, local-dir:<path>, or quickstart
pretrained = true
# checkpoint = "weights.npz"    # a local file with the weights, where there is no network
# args = {{ img_size = 224 }}     # further arguments of timm.create_model

[data]
source = {data}
                                # digits | vtab:<root>/<task> | folder:<path> | a name of timm's create_dataset
# root = "data"                 # where a data set with a timm name lies
# train = 800                   # images of the training split, where it has to be drawn
# search = 200                  # images of the search split, likewise (a share if below 1)
# test = 0.2                    # images of the test split, likewise
# seed = 0                      # of the splits that are drawn; the run's if not given
# train_split = "train"         # timm's names of the splits, where they have others
# search_split = "validation"
# test_split = "test"
# size = 224                    # these three come from the backbone if not given
# mean = [0.485, 0.456, 0.406]
# std = [0.229, 0.224, 0.225]
allow_overlap = false           # go on if more than 1 % of a split's images stand in another split too
max_memory_gib = 4.0            # a data set that fits is decoded once and kept

[space]
name = {space}
                                # a shipped search space, or the path of a TOML file
# min = 100_000                 # budget: trainable parameters, the head excluded
# max = 500_000
# entangle = "untied"           # untied | reference (how the choices of a support tensor share storage)

[train]                         # the supernet, on the training split
steps = 6_000
strategy = "uniform"            # uniform (one random path a step) | sandwich (with in-place distillation)
middle = 1                      # random paths of a sandwich step
batch_size = 64                 # images of a step
ranks = 1                       # parts of a step, each with a path of its own on its share of the images
lr = 1e-3                       # peak learning rate; small models want more, 1e-2 in the quickstart
# vector_lr = 4e-3              # of vectors and constants; lr if not given
# spectrum_lr = 1e-1            # of the coefficients of fourier:<entries>; by lr and the layers' sizes if not given
# head_lr = 4e-3                # of the head; lr if not given
weight_decay = 1e-4
warmup_steps = 50
label_smoothing = 0.0
clip_norm = 1.0                 # 0 for no clipping
drop_path = 0.0
precision = "auto"              # auto (bfloat16 on GPUs) | float32 | bfloat16
record_every = 25               # steps between losses in the database
probe_every = 250               # steps between measurements of a few fixed subnets; 0 for none
checkpoint_every = 200

[search]                        # on the search split
sampler = "evolution"           # evolution | random | tpe | nsga2
mode = "generational"           # generational | steady: no worker waits for the last one of a generation
trials = 1_000
fitness = "cross_entropy"       # cross_entropy | accuracy
population = 50
parents = 10
mutation = 0.2
batch = 10                      # trials asked for together by random and tpe
precision = "auto"              # auto (bfloat16 on GPUs) | float32 | bfloat16
# eval_batch_size = 25          # images that a candidate scores at once; 25 if not given
early_stopping = true           # stop candidates that are certain to be neither parents nor the winner: same result
# early_stopping_lag = 4        # candidates evaluated at once then; less stops sooner; 4, or a batch with workers
max_failure_share = 0.2         # stop the search when more candidates than this share cannot be evaluated

[refit]                         # the winner alone, on train + search
steps = 1_000                   # 0 keeps the inherited weights
start = "inherited"             # inherited | fresh
# lr = 4e-3                     # these two are the training's if not given
# warmup_steps = 50

[export]
# path = "exported"             # <workspace>/runs/<name>/export if not given
tolerance = 1e-3                # largest difference of merged and active outputs, relative to the largest output

[report]                        # measured on the test split, once
baselines = []                  # search spaces with one subnet to compare with, such as ["linear_probe", "lora"]
# steps = 6_000                 # of the baselines; the supernet's if not given
random_subnets = 0              # random subnets with inherited weights to compare with
"""


def render(name: str, backbone: str, data: str, space: str) -> str:
    """The run file with these values."""
    values = {"name": name, "backbone": backbone, "data": data, "space": space}
    return TEMPLATE.format(**{key: json.dumps(value) for key, value in values.items()})
