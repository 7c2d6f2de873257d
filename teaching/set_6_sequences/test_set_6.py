"""The checks of problem set 6. Run them by `python grade.py set_6_sequences`, or by pytest."""

from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, numeric_gradient, replaced, that, unchanged

from funcnn import Key, fold_in, generator

TASKS = {
    1: "embedding",
    2: "a recurrent layer",
    3: "attention",
    4: "sampling",
}
student = Student(Path(__file__).with_name("sequences.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


# --- Task 1 ---------------------------------------------------------------------------------------------------


@check(task=1, points=1)
def test_embed() -> None:
    """each token's row"""
    table, tokens = values(5, 3), np.array([[4, 0, 2], [1, 1, 3]])
    with unchanged(table=table, tokens=tokens):
        close("the embedded tokens", student.embed(table, tokens), np.eye(5)[tokens] @ table)


def right_embed_gradient(tokens: Any, dy: Any, vocabulary: int) -> Any:
    """A row for each token, one after another."""
    table = np.zeros((vocabulary, dy.shape[-1]))
    for token, row in zip(tokens.reshape(-1), dy.reshape(-1, dy.shape[-1]), strict=True):
        table[token] += row
    return table


@check(task=1, points=1)
def test_embed_gradient() -> None:
    """the gradient of the table, where no token repeats"""
    tokens, dy = np.array([[4, 0], [2, 1]]), values(2, 2, 3)
    with unchanged(tokens=tokens, dy=dy):
        close("the table's gradient", student.embed_gradient(tokens, dy, 6), right_embed_gradient(tokens, dy, 6))


@check(task=1, points=1)
def test_embed_gradient_of_repeated_tokens() -> None:
    """tokens that repeat get the sum"""
    tokens, dy = np.array([[1, 1, 0], [3, 1, 3]]), values(2, 3, 2)
    last = np.zeros((4, 2))
    last[tokens] += dy
    right = right_embed_gradient(tokens, dy, 4)
    counts = np.array([1.0, 3.0, 1.0, 2.0])[:, None]
    mistakes = {
        "`gradient[tokens] += dy` adds the last of several alone": last,
        "Tokens that repeat get the sum, not the mean": right / counts,
    }
    close("the table's gradient", student.embed_gradient(tokens, dy, 4), right, mistakes=mistakes)


# --- Task 2 ---------------------------------------------------------------------------------------------------


def cell(time: int = 4) -> tuple[Any, Any]:
    """Params of a layer from 3 to 2 numbers, and two sequences."""
    params = student.RnnParams(values(3, 2, seed=1), values(2, 2, seed=2), values(2, seed=3))
    return params, values(2, time, 3)


def right_rnn(params: Any, x: Any) -> Any:
    """The outputs of a recurrent layer."""
    h, found = np.zeros((len(x), len(params.bias))), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ params.weight_x + h @ params.weight_h + params.bias)
        found.append(h)
    return np.stack(found, axis=1)


@check(task=2, points=1)
def test_first_output() -> None:
    """the first output"""
    params, x = cell(1)
    h, _ = student.rnn_apply(params, x)
    before = x @ params.weight_x + params.bias
    close("h of one step", h, np.tanh(before), mistakes={"tanh is missing": before})


@check(task=2, points=1)
def test_outputs() -> None:
    """outputs that depend on those before"""
    params, x = cell()
    with unchanged(params=params, x=x):
        h, _ = student.rnn_apply(params, x)
    mistakes = {
        "The output before is missing": np.tanh(x @ params.weight_x + params.bias),
        "It is h · weight_h; yours is transposed": right_rnn(params._replace(weight_h=params.weight_h.T), x),
    }
    close("h", h, right_rnn(params, x), mistakes=mistakes)


def rnn_gradients() -> tuple[Any, Any, Any, Any]:
    """Params, x and dh, and what the student's backward gives."""
    params, x = cell()
    dh = values(2, 4, 2, seed=5)
    _, residuals = student.rnn_apply(params, x)
    with unchanged(params=params, dh=dh, residuals=residuals):
        return params, x, dh, student.rnn_backward(params, residuals, dh)


def without_later(params: Any, x: Any, dh: Any) -> Any:
    """The gradients of what tanh is given, if nothing came back through time."""
    return dh * (1 - right_rnn(params, x) ** 2)


@check(task=2, points=1)
def test_rnn_gradient_of_x() -> None:
    """backward: the gradient of x, through all later outputs"""
    params, x, dh, (_, dx) = rnn_gradients()
    mistakes = {"What comes back through later outputs is missing": without_later(params, x, dh) @ params.weight_x.T}
    right = numeric_gradient(lambda x: float(np.vdot(right_rnn(params, x), dh)), x)
    close("dx", dx, right, mistakes=mistakes, rtol=1e-5, atol=1e-7)


def params_slope(params: Any, x: Any, dh: Any, name: str) -> Any:
    """The gradient of one of the params by differences."""
    return numeric_gradient(
        lambda leaf: float(np.vdot(right_rnn(params._replace(**{name: leaf}), x), dh)), getattr(params, name)
    )


@check(task=2, points=1)
def test_rnn_gradients_of_weight_x_and_bias() -> None:
    """backward: the gradients of weight_x and the bias, summed over time"""
    params, x, dh, (gradients, _) = rnn_gradients()
    short = without_later(params, x, dh)
    mistakes = {
        "What comes back through later outputs is missing": np.einsum("nti,ntu->iu", x, short),
        "What comes back through later outputs is missing.": short.sum(axis=(0, 1)),
        "Sum over the examples; it is their mean": params_slope(params, x, dh, "bias") / 2,
        "Sum over time; it is the mean": params_slope(params, x, dh, "bias") / 4,
    }
    for name in ("weight_x", "bias"):
        right = params_slope(params, x, dh, name)
        close(f"the gradient of {name}", getattr(gradients, name), right, mistakes=mistakes, rtol=1e-5, atol=1e-7)


@check(task=2, points=2)
def test_rnn_gradient_of_weight_h() -> None:
    """backward: the gradient of weight_h"""
    params, x, dh, (gradients, _) = rnn_gradients()
    h, short = right_rnn(params, x), without_later(params, x, dh)
    mistakes = {
        "What comes back through later outputs is missing": np.einsum("ntu,ntv->uv", h[:, :-1], short[:, 1:]),
        "weight_h meets the output before, h[:, t - 1], not h[:, t]": np.einsum("ntu,ntv->uv", h, short),
    }
    right = params_slope(params, x, dh, "weight_h")
    close("the gradient of weight_h", gradients.weight_h, right, mistakes=mistakes, rtol=1e-5, atol=1e-7)


# --- Task 3 ---------------------------------------------------------------------------------------------------


def softmax(scores: Any) -> Any:
    """Shares along the last axis."""
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def right_attention(q: Any, k: Any, v: Any, *, causal: bool = True, scaled: bool = True, axis: int = -1) -> Any:
    """Attention, and what mistakes make of it."""
    scores = np.einsum("nif,njf->nij", q, k) / (np.sqrt(q.shape[-1]) if scaled else 1.0)
    if causal:
        scores = np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf)
    return np.swapaxes(softmax(np.swapaxes(scores, -1, axis)), -1, axis) @ v


def queries() -> tuple[Any, Any, Any]:
    """q, k and v: two sequences of five times three numbers."""
    return values(2, 5, 3), values(2, 5, 3, seed=1), values(2, 5, 3, seed=2)


@check(task=3, points=1)
def test_attention() -> None:
    """each output a mean of values, by the shares of its scores"""
    q, k, v = queries()
    mistakes = {
        "Divide the scores by sqrt(features)": right_attention(q, k, v, scaled=False),
        "A position sees itself and those before it alone": right_attention(q, k, v, causal=False),
        "The shares of a query add up to 1: softmax over j, the last axis": right_attention(q, k, v, axis=-2),
    }
    with unchanged(q=q, k=k, v=v):
        y, _ = student.attention_apply(q, k, v)
    close("y", y, right_attention(q, k, v), mistakes=mistakes)


@check(task=3, points=1)
def test_attention_is_causal() -> None:
    """no output depends on what comes later"""
    q, k, v = queries()
    y, _ = student.attention_apply(q, k, v)
    for t in range(1, 5):
        later = [np.concatenate([each[:, :t], 5 - each[:, t:]], axis=1) for each in (q, k, v)]
        close(
            f"y before position {t}, with other inputs from there on,",
            student.attention_apply(*later)[0][:, :t],
            y[:, :t],
        )
    that(not np.allclose(y[:, 1:], v[:, 1:]), "y is v: a position sees those before it too")


@check(task=3, points=1)
def test_large_scores() -> None:
    """finite for scores of 1000 and -1000"""
    q = np.array([[[1000.0], [-1000.0], [1000.0]]])
    k, v = np.array([[[1.0], [0.5], [-1.0]]]), np.array([[[1.0], [2.0], [3.0]]])
    y, _ = student.attention_apply(q, k, v)
    advice = "exp(1000) overflows. Take each row's largest score from it first"
    that(np.isfinite(y).all(), f"y has numbers that are not finite. {advice}")
    close("y", y, [[[1.0], [2.0], [1.0]]])


def attention_gradients() -> tuple[Any, Any]:
    """q, k, v and dy, and what the student's backward gives."""
    q, k, v = queries()
    dy = values(2, 5, 3, seed=3)
    _, residuals = student.attention_apply(q, k, v)
    with unchanged(dy=dy, residuals=residuals):
        return (q, k, v, dy), student.attention_backward(residuals, dy)


@check(task=3, points=1)
def test_gradient_of_values() -> None:
    """backward: the gradient of v"""
    (q, k, v, dy), (_, _, dv) = attention_gradients()
    right = numeric_gradient(lambda v: float(np.vdot(right_attention(q, k, v), dy)), v)
    close("dv", dv, right, rtol=1e-5, atol=1e-7)


@check(task=3, points=2)
def test_gradients_of_queries_and_keys() -> None:
    """backward: the gradients of q and k, through softmax"""
    (q, k, v, dy), (dq, dk, _) = attention_gradients()
    shares = softmax(np.where(np.tri(5, dtype=bool), q @ k.transpose(0, 2, 1) / np.sqrt(3), -np.inf))
    bare = shares * (dy @ v.transpose(0, 2, 1)) / np.sqrt(3)
    mistakes = {"A share depends on all scores of its row: dscores = shares · (dshares - Σ shares · dshares)": bare @ k}
    right = numeric_gradient(lambda q: float(np.vdot(right_attention(q, k, v), dy)), q)
    close("dq", dq, right, mistakes=mistakes, rtol=1e-5, atol=1e-7)
    right = numeric_gradient(lambda k: float(np.vdot(right_attention(q, k, v), dy)), k)
    close("dk", dk, right, rtol=1e-5, atol=1e-7)


# --- Task 4 ---------------------------------------------------------------------------------------------------


def right_sample(logits: Any, key: Any, temperature: float = 1.0) -> int:
    """What task 4 asks for."""
    if temperature == 0:
        return int(np.argmax(logits))
    return int(np.searchsorted(np.cumsum(softmax(np.asarray(logits) / temperature)), generator(key).random(), "right"))


def shares_of_samples(logits: Any, temperature: float, n: int = 100) -> Any:
    """How often each token is drawn."""
    drawn = [student.sample(logits, fold_in(Key(0), i), temperature) for i in range(n)]
    return np.bincount(drawn, minlength=len(logits)) / n


@check(task=4, points=1)
def test_sample() -> None:
    """tokens by their shares and the key's draw"""
    logits = np.array([0.5, -1.0, 1.5, 0.0])
    with unchanged(logits=logits):
        for i in range(50):
            token = student.sample(logits, fold_in(Key(1), i))
            equal(f"the token of key {i}", token, right_sample(logits, fold_in(Key(1), i)))
            that(isinstance(token, int), f"expected an int, got {type(token).__name__}. Take int(...) of it")


@check(task=4, points=1)
def test_temperature() -> None:
    """the temperature divides the logits"""
    logits = np.array([0.5, -1.0, 1.5, 0.0])
    for temperature in (0.5, 3.0):
        right = [right_sample(logits, fold_in(Key(0), i), temperature) for i in range(100)]
        turned = [right_sample(logits, fold_in(Key(0), i), 1 / temperature) for i in range(100)]
        mistakes = {
            "Divide by the temperature: a high one makes the shares alike": np.bincount(turned, minlength=4) / 100,
            "The temperature is left out": shares_of_samples(logits, 1.0),
        }
        expected = np.bincount(right, minlength=4) / 100
        got = shares_of_samples(logits, temperature)
        close(f"the shares of 100 tokens at temperature {temperature}", got, expected, mistakes=mistakes)


@check(task=4, points=1)
def test_extremes() -> None:
    """temperature 0, and logits of 1000"""
    equal("temperature 0", student.sample(np.array([0.0, 2.0, 2.0, 1.0]), Key(0), 0), 1, "The first of equal ones")
    for logits, right in (([0.0, 1000.0, -1000.0], 1), ([-1000.0, -1000.0, -900.0], 2)):
        for seed in range(3):
            equal(f"a token of {logits}", student.sample(np.array(logits), Key(seed)), right, "exp(1000) overflows")


def next_logits(tokens: list[int]) -> Any:
    """Logits that depend on all tokens so far."""
    return np.cos(np.arange(6) * (1 + sum(tokens)))


def generated(seen: list[Any], n: int, temperature: float) -> Any:
    """What the student's function generates, noting what `next_logits` is given."""

    def spied(tokens: list[int]) -> Any:
        seen.append(list(tokens))
        return next_logits(tokens)

    with replaced(student, sample=right_sample):
        return student.generate(spied, [3, 1], n, Key(7), temperature)


@check(task=4, points=1)
def test_generate() -> None:
    """the prompt, and as many tokens as are asked for, each by all before it"""
    seen: list[Any] = []
    prompt = [3, 1]
    with replaced(student, sample=right_sample), unchanged(prompt=prompt):
        student.generate(next_logits, prompt, 2, Key(7))
    tokens = generated(seen, 5, 0.0)
    right = [3, 1]
    for _ in range(5):
        right.append(int(np.argmax(next_logits(right))))
    equal("the tokens at temperature 0", tokens, right, "The list begins with the prompt, and has n more")
    equal("what next_logits is given", seen, [right[:i] for i in range(2, 7)], "All tokens so far, in a list")


@check(task=4, points=1)
def test_generate_by_keys() -> None:
    """each token by its own key, at the temperature asked for"""
    for temperature in (1.0, 4.0):
        right = [3, 1]
        same = [3, 1]
        for i in range(8):
            right.append(right_sample(next_logits(right), fold_in(Key(7), i), temperature))
            same.append(right_sample(next_logits(same), Key(7), temperature))
        got = generated([], 8, temperature)
        advice = "Each token has a key of its own, fold_in(key, i)" if got == same else ""
        equal(f"the tokens at temperature {temperature}", got, right, advice)
