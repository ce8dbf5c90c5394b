"""`keep_first` finds the first tokens however a model is called: what it generates proves it.

The reference knows nothing of caches, masks and positions: it runs the whole sequence of one row,
without padding, for every token.
"""

import copy

import pytest
import torch
from torch import nn

import tiny_models
from sparsact import calibrate, sparsify
from sparsact._common.errors import InputError
from sparsact.calibration.token_masks import counted_tokens
from sparsact.calibration.token_positions import Counts, token_positions

pytestmark = pytest.mark.versions

KEEP, NEW = 2, 5


def bloom():
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=4, **tiny_models.SPECIAL)
    return tiny_models.spread(BloomForCausalLM(config))


def mistral():
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=61, num_key_value_heads=2, sliding_window=6, **tiny_models.SIZES,
        **tiny_models.SPECIAL,
    )  # fmt: skip
    return tiny_models.spread(MistralForCausalLM(config))


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                      decoder_start_token_id=0, pad_token_id=0)  # fmt: skip
    return tiny_models.spread(T5ForConditionalGeneration(config))


KINDS = {
    "llama": tiny_models.llama,
    "gpt2": tiny_models.gpt2,
    "mistral": mistral,
    "bloom": bloom,  # gets no position_ids
    "mamba": tiny_models.mamba,  # has a cache that does not count
    "t5": t5,
}
STATIC = [kind for kind in KINDS if kind != "mamba"]


def planned(kind):
    """A model and a plan that changes what it generates."""
    torch.manual_seed(0)
    model = KINDS[kind]()
    batches = tiny_models.token_batches(rows=2)
    if kind == "t5":
        batches = [{**batch, "decoder_input_ids": batch["input_ids"][:, :7]} for batch in batches]
    return model, calibrate(model, batches, 0.6, score="weight", keep_first=KEEP)


def thresholded(model, plan, keep=KEEP):
    """A copy of the model, for one row without padding, whose layers skip all but `keep` tokens."""
    model = copy.deepcopy(model)
    for site in plan.sites:
        level = plan.thresholds[site.name]

        def skip(module, args, level=level):
            x = args[0]
            assert x.ndim == 3
            assert len(x) == 1
            skipped = torch.where(x.abs() > level, x, 0)
            return (torch.cat([x[:, :keep], skipped[:, keep:]], 1), *args[1:])

        for reader in site.readers:
            model.get_submodule(reader).register_forward_pre_hook(skip)
    return model


def reference(model, plan, ids, mask, new=NEW):
    """The tokens generated for each row, by whole forwards without a cache."""
    model = thresholded(model, plan)
    rows = []
    for row, kept in zip(ids, mask.bool(), strict=True):
        prompt, answer = row[kept][None], torch.zeros(1, 1, dtype=torch.long)
        decodes = model.config.is_encoder_decoder
        for _ in range(new):
            inputs = {"input_ids": prompt}
            if decodes:
                inputs["decoder_input_ids"] = answer
            logits = model(**inputs, use_cache=False).logits[:, -1:]
            logits[..., model.generation_config.eos_token_id] = -torch.inf  # until all are there
            token = logits.argmax(-1)
            if decodes:
                answer = torch.cat([answer, token], 1)
            else:
                prompt = torch.cat([prompt, token], 1)
        rows.append((answer if decodes else prompt)[0, -new:])
    return torch.stack(rows)


def generated(model, ids, mask, **options):
    tokens = model.generate(
        **({"input_ids": ids} | options.pop("prompt", {})),
        attention_mask=mask,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        **options,
    )
    return tokens[:, -NEW:]


def prompt(padding, length=7):
    ids = torch.randint(4, tiny_models.VOCABULARY, (2, length))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    return ids, mask


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 3, 6])
@pytest.mark.parametrize(
    ("kind", "cache"),
    [(kind, cache) for kind in KINDS for cache in ("dynamic", "static", "none")
     if cache != "static" or kind in STATIC],
)  # fmt: skip
def test_generates_what_whole_forwards_do(kind, cache, padding):
    if kind == "t5" and padding:
        padding = 0  # T5 counts distances between all tokens, so padding on the left is seen
    model, plan = planned(kind)
    ids, mask = prompt(padding)
    options = {
        "dynamic": {},
        "static": {"cache_implementation": "static"},
        "none": {"use_cache": False},
    }[cache]
    expected = reference(model, plan, ids, mask)
    try:
        generated(model, ids, mask, **options)
    except ValueError as error:  # Bloom with a static cache and no padding, transformers 5.20
        pytest.skip(f"the dense model fails: {error}")
    with plan.applied(model):
        tokens = generated(model, ids, mask, **options)
    assert torch.equal(tokens, expected)
    sparse = sparsify(model, plan, dtype="float32")
    assert torch.equal(generated(sparse, ids, mask, **options), expected)


@torch.no_grad()
def test_the_reference_is_not_the_dense_model():
    model, plan = planned("llama")
    ids, mask = prompt(0)
    assert not torch.equal(generated(model, ids, mask), reference(model, plan, ids, mask))


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"]
)
def test_from_embeddings(options):
    model, plan = planned("llama")
    ids, mask = prompt(3)
    embeddings = model.get_input_embeddings()(ids)
    with plan.applied(model):
        tokens = model.generate(
            inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
            min_new_tokens=NEW, **options,
        )  # fmt: skip
    assert torch.equal(tokens[:, -NEW:], reference(model, plan, ids, mask))


@torch.no_grad()
def test_beams():
    model, plan = planned("llama")
    ids, mask = prompt(3)
    with plan.applied(model):
        cached, whole = (
            generated(model, ids, mask, num_beams=3, use_cache=use) for use in (True, False)
        )
    assert torch.equal(cached, whole)


@torch.no_grad()
def test_rows_packed_from_several_sequences():
    model, plan = planned("llama")
    parts = [torch.randint(4, tiny_models.VOCABULARY, (1, length)) for length in (5, 1, 6)]
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    number = torch.cat([torch.full((part.shape[1],), i) for i, part in enumerate(parts)])
    mask = ((number[:, None] == number) & torch.ones(12, 12).tril().bool())[None, None]
    single = thresholded(model, plan)
    expected = torch.cat([single(part).logits for part in parts], 1)
    for inputs in (
        {"position_ids": positions, "attention_mask": mask},
        {"position_ids": positions},
    ):
        with plan.applied(model):
            actual = model(torch.cat(parts, 1), use_cache=False, **inputs).logits
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    batch = {"input_ids": torch.cat(parts, 1), "position_ids": positions}
    assert torch.equal(counted_tokens(batch, KEEP), positions >= KEEP)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "bloom", "mamba"])
@pytest.mark.parametrize("pieces", [[1] * 6, [4, 2], [1, 5]], ids=str)
def test_a_prompt_in_pieces(kind, pieces):
    model, plan = planned(kind)
    ids = torch.randint(4, tiny_models.VOCABULARY, (2, 6))
    if kind == "mamba" and pieces != [1] * 6:
        pieces = [6 - pieces[-1], *[1] * pieces[-1]]  # one token at a time, after the first
    name, held, logits = tiny_models.cache_name(model), {}, []
    with plan.applied(model):
        expected = model(ids).logits
        for piece in ids.split(pieces, 1):
            output = model(piece, use_cache=True, **held)
            held = {name: output[name]}
            logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, 1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_inputs_by_position():
    model, plan = planned("llama")
    ids, mask = prompt(3)
    with plan.applied(model):
        torch.testing.assert_close(model(ids, mask).logits, model(ids, attention_mask=mask).logits)


@torch.no_grad()
def test_an_encoder_and_a_decoder_each_have_first_tokens():
    model, plan = planned("t5")
    single = thresholded(model, plan)
    # equal lengths: the decoder's marks would fit the encoder's tokens too
    ids, answer = prompt(0, length=5)[0][:1], torch.randint(4, 61, (1, 5))
    expected = single(input_ids=ids, decoder_input_ids=answer).logits
    with plan.applied(model):
        actual = model(input_ids=ids, decoder_input_ids=answer).logits
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# -- positions ------------------------------------------------------------------------------------


def positions(length=4, past=None, **inputs):
    ids = torch.zeros(2, length, dtype=torch.long)
    if past is not None:
        inputs["anything"] = past
    return token_positions({"input_ids": ids, **inputs}, Counts())


class Cache:
    def __init__(self, length, filled=None):
        self.length, self.filled = length, filled

    def get_seq_length(self):
        if self.length is None:
            raise ValueError("layers of another kind")
        return torch.tensor(self.length)  # as a static cache has it

    def has_previous_state(self):
        return self.filled


LEFT = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
CAUSAL = torch.ones(6, 6).tril().bool()


def test_positions_from_a_mask_and_a_cache():
    expected = torch.tensor([[-1, -1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    assert torch.equal(positions(6, attention_mask=LEFT), expected)
    assert torch.equal(positions(2, attention_mask=LEFT), expected[:, 4:])
    assert torch.equal(positions(2, Cache(4), attention_mask=LEFT), expected[:, 4:])
    # as wide as a static cache
    assert torch.equal(positions(2, Cache(2), attention_mask=LEFT), expected[:, 2:4])
    assert torch.equal(
        positions(2, attention_mask=LEFT, cache_position=torch.tensor([2, 3])), expected[:, 2:4]
    )
    assert torch.equal(positions(2, Cache(3)), torch.tensor([[3, 4]] * 2))
    assert torch.equal(
        positions(2, cache_position=torch.tensor([3, 4])), torch.tensor([[3, 4]] * 2)
    )


@pytest.mark.parametrize("kind", ["bool", "float", "named"])
@pytest.mark.parametrize("padding_sees", ["nothing", "all"])
@pytest.mark.parametrize("width", [6, 9])
def test_positions_from_a_mask_with_four_dims(kind, padding_sees, width):
    sees = LEFT.bool()[:, None, None, :] & CAUSAL[None, None]
    sees = nn.functional.pad(sees, (0, width - 6))
    if padding_sees == "all":
        sees |= ~sees.any(-1, keepdim=True)
    mask = sees if kind != "float" else torch.zeros(sees.shape).masked_fill(~sees, -1e9)
    if kind == "named":
        mask = {"full_attention": mask, "sliding_attention": None}
    expected = torch.tensor([[-1, -1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    assert torch.equal(positions(6, Cache(0), attention_mask=mask), expected)
    if width == 6:
        assert torch.equal(positions(6, attention_mask=mask), expected)
    if kind == "bool":
        last = positions(2, Cache(4), attention_mask=mask[:, :, 4:])
        assert torch.equal(last, expected[:, 4:])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"attention_mask": torch.ones(2, 1, 4, 4, dtype=torch.bool)}, "tokens see later ones"),
        ({"attention_mask": torch.ones(2, 1, 4, 4, dtype=torch.bool).triu()}, "see later ones"),
        ({"attention_mask": object()}, "attention_mask of type object"),
        ({"attention_mask": torch.ones(2, 3)}, "attention_mask of 3 tokens"),
        ({"attention_mask": torch.ones(2, 4), "past": Cache(4)}, "attention_mask of 4 tokens"),
        ({"position_ids": torch.zeros(3, 2, 4)}, r"position_ids of shape \(3, 2, 4\)"),
        ({"past_key_values": ((torch.zeros(1), torch.zeros(1)),)}, "past_key_values, a tuple"),
        ({"past": Cache(None, filled=True)}, "how many tokens the Cache holds"),
    ],
)
def test_what_is_not_recognised_is_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        positions(4, **inputs)


def test_a_cache_that_says_nothing_is_refused_by_its_name():
    class MambaCache:
        """As in transformers 5.0."""

    with pytest.raises(InputError, match="cannot read cache_params, a MambaCache that does not"):
        positions(4, cache_params=MambaCache())


def test_a_cache_that_is_empty_again_counts_from_zero():
    cache = Cache(None, filled=True)
    ids = torch.zeros(2, 3, dtype=torch.long)
    counts = Counts({cache: torch.full((2, 1), 7)})
    assert token_positions({"input_ids": ids, "state": cache}, counts)[0].tolist() == [7, 8, 9]
    cache.filled = False
    assert token_positions({"input_ids": ids, "state": cache}, counts)[0].tolist() == [0, 1, 2]
    assert not counts
