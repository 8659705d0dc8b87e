"""The commented run file that `glorasearch init` writes; every value in it is the default."""

TEMPLATE = """# A run of glorasearch: `glorasearch run THIS_FILE`. `--set search.trials=200` overrides a value.
name = "{name}"
seed = 0
device = "auto"                 # auto | cpu | cuda | cuda:1
# threads = 4                   # of torch on the CPU, here and in each worker

[backbone]
name = "{backbone}"             # a timm name, local-dir:<path>, or quickstart
pretrained = true
# checkpoint = "weights.npz"    # a local file with the weights, where there is no network
# args = {{ img_size = 224 }}     # further arguments of timm.create_model

[data]
source = "{data}"               # digits | vtab:<root>/<task> | folder:<path> | a name of timm's create_dataset
# root = "data"                 # where a data set with a timm name lies
# train = 800                   # images of the training split, where it has to be drawn
# search = 200                  # images of the search split, likewise (a share if below 1)
# size = 224                    # these three come from the backbone if not given
# mean = [0.485, 0.456, 0.406]
# std = [0.229, 0.224, 0.225]
allow_overlap = false           # go on if more than 1 % of a split's images stand in another split too

[space]
name = "{space}"                # a shipped search space, or the path of a TOML file
# min = 100_000                 # budget: trainable parameters, the head excluded
# max = 500_000
# entangle = "untied"           # untied | reference (how the choices of a support tensor share storage)

[train]                         # the supernet, on the training split
steps = 6_000
strategy = "uniform"            # uniform (one random path a step) | sandwich (with in-place distillation)
batch_size = 64
lr = 4e-3
weight_decay = 1e-4
warmup_steps = 50
label_smoothing = 0.0
clip_norm = 1.0
drop_path = 0.0
precision = "auto"              # auto (bfloat16 on GPUs) | float32 | bfloat16

[search]                        # on the search split
sampler = "evolution"           # evolution | random | tpe | nsga2
trials = 1_000
fitness = "cross_entropy"       # cross_entropy | accuracy
population = 50
parents = 10
mutation = 0.2

[refit]                         # the winner alone, on train + search
steps = 1_000                   # 0 keeps the inherited weights
start = "inherited"             # inherited | fresh

[export]
# path = "exported"             # default: <workspace>/runs/<name>/export

[report]                        # measured on the test split, once
baselines = ["linear_probe", "lora"]   # search spaces that have one subnet
"""
