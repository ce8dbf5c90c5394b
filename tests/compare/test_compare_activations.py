"""The comparison of activations in networks that are not ours."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import sparsact as sa
from architectures import ARCHITECTURES, PreActivationNet, ResNet
from sparsact.compare.problems.exchange import call_model, new_network, places_to_exchange
from sparsact.compare.settings.compared_activations import ACTIVATIONS, BY_NAME, Width
from sparsact.compare.settings.own_activations import chosen_activations
from sparsact.compare.training import engine
from sparsact.hooks import first_tensor
from tiny_models import SIZES, SPECIAL, token_batches, vit

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=GENERATOR)
Y = (X[:, 0] > 0).long()
IMAGES = torch.randn(24, 3, 8, 8, generator=GENERATOR)
LABELS = torch.randint(5, (24,), generator=GENERATOR)


@pytest.fixture(autouse=True)
def no_timing(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step times are measured in one test."""
    if "times" not in request.node.name:
        monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})


def small(outputs: int = 2) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


def compare(build: Any, train: Any, validation: Any = None, **options: Any) -> Any:
    options = {"activations": "softshrink", "epochs": 1, "seeds": 1, "batch_size": 20, **options}
    return sa.compare_activations(
        build, train, train if validation is None else validation, **options
    )


class FunctionalNet(nn.Module):
    """Functions, one module at two places, a gate, and a relu that makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head, self.act = nn.Linear(6, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(F.gelu(self.first(x)))
        x = self.act(self.second(x)) * torch.sigmoid(x)
        return F.relu(self.head(x))


def test_only_the_activations_differ_between_settings() -> None:
    places, remarks = places_to_exchange(FunctionalNet(), X[:2])
    assert places == ("gelu()#1", "act#1", "act#2")
    assert any("gates are left alone: sigmoid()" in remark for remark in remarks)
    assert any("output is left alone: relu()" in remark for remark in remarks)
    torch.manual_seed(3)
    expected = FunctionalNet()
    for name, activation in BY_NAME.items():
        level = {"lambd": 0.5, "k": 0.5, None: None}[activation.takes]
        model, sites = new_network(FunctionalNet, places, activation, level, 3, X[:2])
        assert list(sites) == ["gelu()", "act", "act#2"], name
        for part in ("first", "second", "head"):
            own, other = (m.get_submodule(part).state_dict() for m in (model, expected))
            assert all(torch.equal(own[key], other[key]) for key in own)
        assert model(X).shape == (60, 2)


def test_exchanging_for_what_was_there_changes_nothing() -> None:
    relu = ACTIVATIONS["relu"]
    for build in (ResNet, PreActivationNet):
        torch.manual_seed(0)
        expected = build()
        places, _ = places_to_exchange(expected, IMAGES[:2])
        model, _ = new_network(build, places, relu, None, 0, IMAGES[:2])
        assert torch.equal(model.eval()(IMAGES), expected.eval()(IMAGES))


@pytest.mark.parametrize("build", [ResNet, PreActivationNet])
def test_convolutional_networks(build: Callable[[], nn.Module]) -> None:
    names = ["topk", "learned_jumprelu", nn.ELU]
    result = compare(build, (IMAGES, LABELS), activations=names, penalty=sa.L1(1e-3), seeds=2)
    assert list(result.table.index) == [
        "relu L1=0.001",
        "topk k/n=0.1 L1=0.001",
        "learned_jumprelu λ₀=0.5 L1=0.001",
        "ELU L1=0.001",
        "most frequent class",
    ]
    table = result.table.iloc[:4]
    assert table["density"].between(0, 1).all()
    assert table["score"].between(0, 1).all()
    assert (table["trainings"] == 2).all()
    assert result.best(IMAGES).shape == (24, 5)
    assert not result.best.training


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_takes_every_kind_of_activation(name: str) -> None:
    """Also recurrent cells, tied layers and checkpoints: a forward, a backward, a measurement."""
    build, example, _ = ARCHITECTURES[name]
    inputs = example()
    inputs = tuple(inputs) if isinstance(inputs, list) else inputs
    places, _ = places_to_exchange(build(), inputs)
    for kind in ("relu", "topk", "learned_jumprelu", "batch_topk", "entmax"):
        level = {"lambd": 0.5, "k": 0.5, None: None}[BY_NAME[kind].takes]
        model, sites = new_network(build, places, BY_NAME[kind], level, 0, inputs)
        meter = sa.SparsityMeter(model.train(), list(sites.values()), gradients=True)
        first_tensor(call_model(model, inputs)).float().square().mean().backward()
        assert set(meter.compute()) == {site.name for site in sites.values()}


def test_what_is_left_alone() -> None:
    class Recurrent(nn.Module):
        """Its one tanh makes the state, and in the last step the output."""

        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell()

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.cell(x)
            return x

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.layer(x))

    assert places_to_exchange(Recurrent(), X)[0] == ("cell.tanh()#1",)
    gated = nn.Sequential(nn.Linear(4, 8), nn.GLU(), nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 2))
    places, remarks = places_to_exchange(gated, X)
    assert places == ("3#1",)
    assert remarks == ("gates are left alone: 1",)


def tiny_llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=61, num_key_value_heads=2, tie_word_embeddings=True, **SIZES, **SPECIAL
    )
    return LlamaForCausalLM(config)


def test_a_language_model_with_its_own_loss() -> None:
    batches = [{**batch, "labels": batch["input_ids"]} for batch in token_batches(2)]
    result = compare(tiny_llama, batches, batches[:1], test=batches[1:], activations="silu")
    assert result.report.score_name == "neg. loss"
    layers = [trace.layer for trace in result.report.densities if trace.label == "silu"]
    assert layers == ["model.layers.0.mlp.act_fn", "model.layers.1.mlp.act_fn"]
    best = result.best
    with torch.no_grad():
        loss = float(best(**batches[1]).loss)
    row = result.table.loc[result.table["picked"].eq(True)].iloc[0]
    assert row["score"] == pytest.approx(-loss, abs=1e-5)
    assert best.lm_head.weight is best.model.embed_tokens.weight


def test_a_vision_transformer() -> None:
    pixels = torch.randn(10, 3, 16, 16)
    batches = [
        {"pixel_values": pixels[i : i + 5], "labels": torch.arange(5)} for i in range(0, 10, 5)
    ]
    result = compare(vit, batches, activations="topk")
    with torch.no_grad():
        logits = torch.cat([result.best(pixel_values=b["pixel_values"]).logits for b in batches])
    accuracy = float((logits.argmax(1) == torch.arange(5).repeat(2)).double().mean())
    picked = result.table.loc[result.table["picked"].eq(True)].iloc[0]
    assert picked["score"] == pytest.approx(accuracy)


class StepNet(nn.Module):
    """In the manner of Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return {"loss": F.cross_entropy(self(x), y, label_smoothing=0.1)}


def test_a_module_with_a_training_step() -> None:
    result = compare(StepNet, (X, Y), epochs=6, lr=0.02, seeds=2)
    assert result.report.score_name == "accuracy"
    assert result.table.loc["relu", "score"] > 0.8


def test_a_module_of_lightning_may_log() -> None:
    lightning = pytest.importorskip("lightning")

    class Logging(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = small()()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Any) -> Tensor:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

    assert len(compare(Logging, (X, Y)).table) == 3


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(X[i], Y[i]) for i in range(60)])


FRAME = pd.DataFrame(X.numpy(), columns=list("abcd")).assign(
    flag=True, kind=np.where(Y.numpy() == 1, "yes", "no")
)
BATCHES = [(X[i : i + 20], Y[i : i + 20]) for i in range(0, 60, 20)]
DATA: dict[str, Any] = {
    "tensors": (X, Y),
    "numpy": (X.double().numpy(), Y.numpy()),
    "pandas": (FRAME[list("abcd")], FRAME["kind"]),
    "data set": Rows(),
    "stream": Stream(),
    "loader": DataLoader(Rows(), 20, shuffle=True),
    "list of batches": BATCHES,
    "lists": [[x, y] for x, y in BATCHES],
    "numpy batches": [(x.numpy(), y.numpy()) for x, y in BATCHES],
}


@pytest.mark.parametrize("form", DATA)
def test_forms_of_data(form: str) -> None:
    result = compare(small(), DATA[form], (X, Y), epochs=2, lr=0.02, batch_size=20)
    assert result.report.facts[0].startswith("60 / 60 samples")
    assert result.report.score_name == "accuracy"
    assert result.table.loc["relu", "score"] > 0.6


def test_a_data_frame_with_a_target() -> None:
    wide = lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))  # noqa: E731
    assert len(compare(wide, FRAME, target="kind").table) == 3


def test_batches_of_keywords() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()()

        def forward(self, features: Tensor) -> Tensor:
            return self.net(features)

    result = compare(Keywords, {"features": X, "target": Y, "weight": X[:, 0]})
    assert any("does not take these keys of a batch: weight" in f for f in result.report.facts)


@pytest.mark.parametrize("shape", [(60,), (60, 1)])
def test_regression_takes_a_target_of_either_shape(shape: tuple[int, ...]) -> None:
    result = compare(small(1), (X, X[:, 0].reshape(shape)), epochs=15, lr=0.02)
    assert result.report.score_name == "R²"
    assert result.table.loc["relu", "score"] > 0.5
    assert result.table.loc["mean of the training part", "score"] == pytest.approx(0, abs=1e-6)


def test_one_logit_for_two_classes() -> None:
    result = compare(small(1), (X, Y), epochs=15, lr=0.02)
    assert result.report.score_name == "accuracy"
    assert result.table.loc["relu", "score"] > 0.8


def test_a_tensor_is_its_own_target() -> None:
    assert compare(small(4), X).report.score_name == "R²"


def test_a_rare_class_is_scored_evenly_and_no_better_than_a_constant() -> None:
    rare = torch.zeros(60, dtype=torch.long)
    rare[:4] = 1
    result = compare(small(), (X, rare), lr=1e-6)
    assert result.report.score_name == "balanced accuracy"
    assert result.table.loc["most frequent class", "score"] == 0.5
    if result.table.loc[result.table["picked"].eq(True), "score"].item() <= 0.5:
        assert "no better than a constant prediction" in result.report.conclusion


def test_own_loss_score_and_optimizer_are_used() -> None:
    seen = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        seen.append((output.shape, target.shape))
        return (output - target).abs().mean()

    result = compare(
        small(1),
        (X, X[:, :1]),
        loss=loss,
        score=lambda predictions, targets: -(predictions - targets).square().mean(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0),
        batch_size=30,
    )
    assert set(seen) == {((30, 1), (30, 1))}
    torch.manual_seed(0)
    initial = small(1)()
    assert torch.equal(result.best[0].weight, initial[0].weight)
    assert result.report.baseline is None


def test_settings_see_the_same_batches_whatever_they_draw() -> None:
    """A random activation must not change the order of the batches, nor one setting another's."""
    orders: list[list[int]] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        orders[-1].append(int(target.sum()))
        return F.cross_entropy(output, target)

    def build() -> nn.Module:
        orders.append([])
        return small()()

    loader = DataLoader(Rows(), 6, shuffle=True, generator=torch.Generator())
    for data in (DataLoader(Rows(), 6, shuffle=True), loader, (X, Y)):
        orders.clear()
        activations = {"random": lambda: nn.Sequential(nn.RReLU(), nn.Dropout(0.5))}
        options = {"activations": activations, "batch_size": 6, "epochs": 2, "seeds": 2}
        compare(build, data, (X, Y), loss=loss, **options)
        runs = [order[:20] for order in orders if len(order) >= 20]
        relu, random = runs[0::2], runs[1::2]
        assert len(runs) == 4
        assert relu[0] == random[0]
        assert relu[1] == random[1]
        assert relu[0] != relu[1]
        assert relu[0][:10] != relu[0][10:]


def test_the_same_call_gives_the_same_numbers_and_leaves_the_generator() -> None:
    state = torch.get_rng_state()
    first, second = (compare(StepNet, (X, Y)).table for _ in range(2))
    times = ["step_ratio", "batch_ms", "sample_ms", "sparse_sample_ms"]
    pd.testing.assert_frame_equal(first.drop(columns=times), second.drop(columns=times))
    assert torch.equal(torch.get_rng_state(), state)


def test_own_activations() -> None:
    def per_channel(width: Width) -> nn.Module:
        return nn.PReLU(width.channels)

    chosen = chosen_activations(["elu", nn.Tanh, per_channel, "torch.nn:Mish"])
    assert list(chosen) == ["relu", "elu", "Tanh", "per_channel", "torch.nn:Mish"]
    result = compare(small(), (X, Y), activations={"mine": nn.SiLU, "wide": per_channel})
    assert list(result.table.index[:3]) == ["relu", "mine", "wide"]
    assert list(chosen_activations("all")) == list(ACTIVATIONS)
    assert list(chosen_activations(nn.SELU)) == ["relu", "SELU"]


def test_several_processes_give_the_same_records(tmp_path: Any) -> None:
    lines = []
    for jobs in (1, 2):
        out = tmp_path / f"jobs{jobs}"
        compare(StepNet, (X, Y), seeds=2, jobs=jobs, target_density=0.4, out=out)
        lines.append((out / "results.jsonl").read_text(encoding="utf-8").splitlines())
    assert sorted(lines[0]) == sorted(lines[1])


def test_an_interrupted_comparison_is_resumed(tmp_path: Any) -> None:
    def interrupt(done: int, total: int, label: str) -> None:
        if total > 1 and done == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"seeds": 2, "epochs": 1}
    whole = compare(StepNet, (X, Y), **options)
    part = compare(StepNet, (X, Y), **options, out=tmp_path / "run", progress=interrupt)
    assert not part.complete
    assert part.table["trainings"].sum() == 2
    again = compare(StepNet, (X, Y), **options, out=tmp_path / "run", resume=True)
    assert again.complete
    columns = ["score", "density", "p"]
    pd.testing.assert_frame_equal(again.table[columns], whole.table[columns])
    for changed in ({"lr": 1.0}, {"seeds": 3}):
        with pytest.raises(ValueError, match="they differ"):
            compare(StepNet, (X, Y), **{**options, **changed}, out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="changed since"):
        compare(StepNet, (X[:30], Y[:30]), **options, out=tmp_path / "run", resume=True)


def test_the_learning_rate_of_each_setting() -> None:
    result = compare(small(), (X, Y), lr="auto", epochs=3)
    labels = list(result.table.index)
    assert labels[0].startswith("relu lr=")
    assert labels[1].startswith("softshrink λ=0.5 lr=")


def test_a_target_density_in_a_convolutional_network() -> None:
    result = compare(
        ResNet, (IMAGES, LABELS), activations="jumprelu,topk", target_density=0.25, epochs=1
    )
    density = result.table["density"]
    assert density.iloc[1] == pytest.approx(0.25, rel=0.08)
    assert density.iloc[2] == pytest.approx(0.25, rel=0.08)


def test_step_times_beside_relu() -> None:
    result = compare(StepNet, (X, Y), activations=["topk", nn.ELU], batch_size=30)
    ratios = result.table["step_ratio"].iloc[:3]
    assert ratios.iloc[0] == 1
    assert (ratios > 0).all()


def test_an_own_activation_without_zeros_is_not_searched() -> None:
    own = {"mine": nn.Tanh, "half": nn.ReLU}
    result = compare(small(), (X, Y), activations=own, target_density=0.3, lr=0.02, epochs=3)
    labels = list(result.table.index)
    assert labels[1] == "mine"
    assert labels[2].startswith("half l1=")


def test_the_result_prints(tmp_path: Any) -> None:
    result = compare(small(), (X, Y), seeds=2, name="my <net>")
    lines = str(result).splitlines()
    assert lines[0] == "Activations of my <net>"
    assert lines[2].startswith("setting")
    assert "my &lt;net&gt;" in result._repr_html_()
    assert set(result.frontier.index) <= set(result.table.index)
    assert result.frontier["density"].is_monotonic_increasing
    result.save_report(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_copies_of_one_model_are_new_models() -> None:
    model = small()()
    before = copy.deepcopy(model.state_dict())
    compare(lambda: copy.deepcopy(model), (X, Y))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


RAW = pd.DataFrame(
    {
        "size": [None if i % 7 == 0 else float(i % 5) for i in range(60)],
        "colour": [("red", "green", "blue")[i % 3] for i in range(60)],
        "day": pd.date_range("2024-01-01", periods=60).astype(str),
        "price": [f"1,{i:03d}" for i in range(60)],
        "kind": ["warm" if i % 3 == 0 else "cold" for i in range(60)],
    }
)


@pytest.mark.parametrize("form", ["frame", "pair"])
def test_raw_data_frames_are_encoded_and_the_best_model_takes_them(form: str) -> None:
    widths = []

    def build(features: int) -> nn.Module:
        widths.append(features)
        return nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, 2))

    def part(rows: slice) -> Any:
        frame = RAW.iloc[rows]
        return frame if form == "frame" else (frame.drop(columns="kind"), frame["kind"])

    target = "kind" if form == "frame" else None
    result = compare(
        build, part(slice(0, 40)), part(slice(40, 60)), target=target, epochs=20, lr=0.02
    )
    assert set(widths) == {1 + 1 + 3 + 3 + 1}  # size and its mark, colours, a date, price
    raw = RAW.iloc[40:].drop(columns="kind")
    with torch.no_grad():
        predicted = result.best(raw[raw.columns[::-1]]).argmax(1)
    truth = torch.tensor([0 if kind == "cold" else 1 for kind in RAW["kind"].iloc[40:]])
    picked = result.table.loc[result.table["picked"].eq(True)].iloc[0]
    assert picked["score"] == pytest.approx(float((predicted == truth).double().mean()))
    assert picked["score"] > 0.9
    assert any(note.startswith("colour: ") for note in result.report.notes)


def test_a_raw_frame_without_a_target_in_a_row_or_a_column_is_refused() -> None:
    holes = RAW.assign(kind=[None, *RAW["kind"][1:]])
    with pytest.raises(ValueError, match=r"train= has no target in row 1"):
        compare(small(), holes, RAW, target="kind")
    with pytest.raises(ValueError, match=r"validation=: the table has no column 'colour'"):
        compare(small(), RAW, RAW.drop(columns="colour"), target="kind")
