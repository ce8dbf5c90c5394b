"""What the largest jobs need in memory, network and time, as tables for the documentation.

    python scripts/cost_model.py

Bytes and operations follow from shapes; tests compare the formulas with small runs. Times are
estimates: operations over the peak rate and bytes over the bandwidth of the data sheet. A real run
takes longer.
"""

from collections.abc import Callable
from dataclasses import dataclass

HISTOGRAM_BYTES = 8 * 2**15
"""One histogram of scores of one site."""
PROCESS_BYTES = 0.35e9
"""Host memory of a process that has imported torch and sparsact.compare, rounded up."""


@dataclass(frozen=True)
class Device:
    """One GPU with its part of a node, in bytes and operations per second.

    The numbers are those of an H100 SXM (NVIDIA H100 data sheet: memory, bandwidth, dense rates
    without sparsity) with one 400 Gb/s port each (DGX H100 data sheet). The disk is our
    assumption: one NVMe drive of a node.
    """

    memory: float = 80e9
    bandwidth: float = 3.35e12
    tf32: float = 494e12
    bf16: float = 989e12
    network: float = 50e9
    disk: float = 7e9


@dataclass(frozen=True)
class Dictionary:
    """A sparse autoencoder in training, with TopK.

    Attributes:
        width: of the activations.
        latents: of the dictionary.
        rows: of a batch, over all GPUs.
        k: active latents per row.
    """

    width: int = 4096
    latents: int = 2**20
    rows: int = 8192
    k: int = 64

    @property
    def parameters(self) -> int:
        """Encoder, its bias, decoder, its bias."""
        return 2 * self.width * self.latents + self.latents + self.width

    @property
    def state_bytes(self) -> int:
        """Parameters, gradients and Adam's two moments in float32; 8 bytes a latent for its age."""
        return 16 * self.parameters + 8 * self.latents

    @property
    def flops(self) -> int:
        """Of one step, dense: two products forward, four backward."""
        return 12 * self.rows * self.width * self.latents

    def saved_bytes(self, gpus: int, split_latents: bool) -> int:
        """What backward keeps on one GPU: per row 9 bytes a latent, and three rows in float32."""
        if split_latents:
            return self.rows * (9 * self.latents // gpus + 12 * self.width)
        return self.rows // gpus * (9 * self.latents + 12 * self.width)


Plan = Callable[[Dictionary, int], tuple[float, float]]
"""Memory of one GPU, and the bytes that it sends and receives in a step."""


def copied(job: Dictionary, gpus: int) -> tuple[float, float]:
    """DDP: everything on every GPU; the gradients are reduced in a ring."""
    ring = 2 * 4 * job.parameters * (gpus - 1) / gpus
    return job.state_bytes + job.saved_bytes(gpus, False), ring


def sharded(job: Dictionary, gpus: int) -> tuple[float, float]:
    """``shard=True``, FSDP2 as one group: the state is divided, and one step gathers all of it."""
    within = 8 * job.parameters  # all parameters and all gradients
    traffic = 2 * 4 * job.parameters * (gpus - 1) / gpus
    return within + job.state_bytes / gpus + job.saved_bytes(gpus, False), traffic


def by_latents(job: Dictionary, gpus: int) -> tuple[float, float]:
    """Each GPU has some of the latents and sees all rows: candidates and outputs are exchanged."""
    candidates = job.rows * job.k * 8 * (gpus - 1)
    inputs = 4 * job.rows * job.width * (gpus - 1) / gpus
    outputs = 2 * 4 * job.rows * job.width * (gpus - 1) / gpus
    return job.state_bytes / gpus + job.saved_bytes(gpus, True), candidates + inputs + outputs


PLANS: dict[str, Plan] = {
    "a copy on each (DDP)": copied,
    "`shard=True` (FSDP2)": sharded,
    "divided by latents (DTensor)": by_latents,
}


def step_seconds(job: Dictionary, gpus: int, traffic: float, device: Device) -> float:
    """The longer of products in TF32 and network, as if each hid the other."""
    return max(job.flops / gpus / device.tf32, traffic / device.network)


@dataclass(frozen=True)
class Llama:
    """The shape of a model like Llama; the defaults are those of Llama 3 70B."""

    width: int = 8192
    inner: int = 28672
    layers: int = 80
    heads: int = 64
    key_heads: int = 8
    vocabulary: int = 128256

    @property
    def key_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.width // self.heads * self.key_heads

    @property
    def linear_weights(self) -> int:
        """Those of the layers that calibration looks at."""
        attention = 2 * self.width**2 + 2 * self.width * self.key_width
        return self.layers * (attention + 3 * self.width * self.inner)

    @property
    def parameters(self) -> int:
        """All, with an output head of its own."""
        norms = (2 * self.layers + 1) * self.width
        return self.linear_weights + 2 * self.vocabulary * self.width + norms

    @property
    def site_widths(self) -> list[int]:
        """Inputs of the sites of one layer: q|k|v, o, gate|up and down."""
        return [self.width, self.width, self.width, self.inner]

    @property
    def statistics_bytes(self) -> int:
        """For each site two histograms, of the dense and the sparse model, scores, thresholds."""
        each = (2 * HISTOGRAM_BYTES + 2 * 4 * inputs for inputs in self.site_widths)
        return self.layers * sum(each)

    @property
    def moments_bytes(self) -> int:
        """Of compensation, for all sites."""
        return self.layers * sum(2 * 4 * inputs**2 for inputs in self.site_widths)

    def compensation_passes(self, memory_bytes: int) -> int:
        """How often compensation reads the batches: its sites go in groups of so much memory."""
        groups, size = 1, 0
        for inputs in self.site_widths * self.layers:
            own = 2 * 4 * inputs**2
            if size and size + own > memory_bytes:
                groups, size = groups + 1, 0
            size += own
        return groups

    def saved_floats(self, tokens: int) -> int:
        """What the forward of one row keeps for backward, in numbers; without logits."""
        per_token = 8 * self.width + 2 * self.key_width + 4 * self.inner + self.heads + 2
        return tokens * self.layers * per_token

    def graph_bytes(self, tokens: int) -> int:
        """Of the score "loss" on one row in bfloat16, with the copy that each reader gets."""
        copies = tokens * self.layers * (6 * self.width + self.inner)
        return 2 * (self.saved_floats(tokens) + copies) + 4 * tokens * self.vocabulary

    def calibration_flops(self, batches: int, held_out: int, tokens: int) -> int:
        """Of the products with linear weights, score "loss", batches of `tokens` tokens.

        Forwards: one finds the sites, then loss, scores, every third batch, every batch, and the
        held-out ones. Backward computes the gradients of inputs only, once.
        """
        forwards = 1 + 3 * batches + -(-batches // 3) + held_out
        return 2 * self.linear_weights * tokens * (forwards + batches)


@dataclass(frozen=True)
class Sweep:
    """A comparison of many trainings.

    Attributes:
        trainings: their number.
        seconds: of one, alone on its share of a GPU: your own measurement.
        per_gpu: trainings at the same time on one GPU.
        data_bytes: the data of one training.
        weights_bytes: of one trained model, which comes back.
    """

    trainings: int = 10_000
    seconds: float = 60
    per_gpu: int = 4
    data_bytes: float = 184e6  # 60,000 images of 32·32·3 bytes
    weights_bytes: float = 1e6

    @property
    def traffic(self) -> float:
        """Bytes through the process that hands out the work: every training gets the data."""
        return self.trainings * (self.data_bytes + self.weights_bytes)

    def seconds_on(self, gpus: int, device: Device) -> tuple[float, float]:
        """Of the trainings, and of the traffic through one port."""
        rounds = -(-self.trainings // (gpus * self.per_gpu))
        return rounds * self.seconds, self.traffic / device.network

    def host_bytes(self, gpus: int) -> float:
        """Of all processes, each with the data."""
        return gpus * self.per_gpu * (PROCESS_BYTES + self.data_bytes)


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def _seconds(number: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number * 1e3:.3g} ms"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def dictionary_table(device: Device = Device(), job: Dictionary = Dictionary()) -> str:
    """The ways to train a dictionary, on 8 and on 64 GPUs."""
    rows = []
    for name, plan in PLANS.items():
        for gpus in (8, 64):
            memory, traffic = plan(job, gpus)
            fits = "yes" if memory <= device.memory else "**no**"
            seconds = _seconds(step_seconds(job, gpus, traffic, device))
            rows.append([name, str(gpus), _bytes(memory), fits, _bytes(traffic), seconds])
    fits = f"fits in {_bytes(device.memory)}"
    header = ["where the dictionary is", "GPUs", "memory of one", fits, "network of one", "a step"]
    return _table(header, rows)


def calibration_table(device: Device = Device(), model: Llama = Llama()) -> str:
    """Calibration with the defaults of the command: six rows of 512 tokens, and one held out."""
    flops = model.calibration_flops(6, 1, 512)
    weights = 2 * model.parameters
    rows = []
    for gpus in (8, 64):
        share = (weights + model.statistics_bytes + model.graph_bytes(512)) / gpus
        load = _seconds(weights / device.disk)
        products = _seconds(flops / device.bf16)
        moments = f"{_bytes(model.moments_bytes)}, {model.compensation_passes(2**30)} passes"
        rows.append([str(gpus), _bytes(share), load, products, moments])
    header = ["GPUs", "memory of one", "reading the weights", "products", "compensation"]
    return _table(header, rows)


def sweep_table(device: Device = Device(), sweep: Sweep = Sweep()) -> str:
    """Ten thousand trainings."""
    rows = []
    for gpus in (8, 64):
        training, traffic = sweep.seconds_on(gpus, device)
        host = _bytes(sweep.host_bytes(gpus))
        through = f"{_bytes(sweep.traffic)}, {_seconds(traffic)}"
        rows.append([str(gpus), str(gpus * sweep.per_gpu), host, through, _seconds(training)])
    header = ["GPUs", "at once", "host memory of all", "through the first process", "trainings"]
    return _table(header, rows)


TABLES = {
    "dictionary": dictionary_table,
    "calibration": calibration_table,
    "sweep": sweep_table,
}


def cost_table(name: str) -> str:
    """One of `TABLES`, for the documentation."""
    return TABLES[name]()


if __name__ == "__main__":
    for name in TABLES:
        print(f"{cost_table(name)}\n")
