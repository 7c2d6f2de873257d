"""Wrong answers to the problem sets: what is changed in a solution, and the points that each task then loses."""

from typing import NamedTuple

__all__ = ["WRONG", "Answer"]


class Answer(NamedTuple):
    """A mistake: the solution's text, what stands there instead, the points lost by task, a word of the advice."""

    mistake: str
    old: str
    new: str
    lost: dict[int, int]
    advice: str = ""


WRONG = {
    "set_1_gradients": [
        Answer("one factor", "(2 * x - x**2) * np.exp(-x)", "2 * x * np.exp(-x)", {1: 1}, "Both factors"),
        Answer("tanh of y", "return 1 - y**2", "return 1 - np.tanh(y) ** 2", {1: 1}, "not x"),
        Answer(
            "overflow", "np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))", "np.log(1 + np.exp(x))", {1: 1}, "overflows"
        ),
        Answer(
            "ahead alone", "(function(x + e) - function(x - e)) / (2", "(function(x + e) - function(x)) / (1", {2: 1}
        ),
        Answer("half a step", "function(x - e)) / (2 * step)", "function(x - e)) / step", {2: 3}),
        Answer("vectors alone", "for i in np.ndindex(x.shape)", "for i in range(len(x))", {2: 1}),
        Answer(
            "x written to",
            "        gradient[i] = (function(x + e) - function(x - e)) / (2 * step)\n",
            "        x[i] += step\n"
            "        ahead = function(x)\n"
            "        x[i] -= 2 * step\n"
            "        gradient[i] = (ahead - function(x)) / (2 * step)\n"
            "        x[i] += step\n",
            {2: 1},
            "Make x + e",
        ),
        Answer("a sum, not a mean", "2 * error / error.size", "2 * error", {3: 1}, "divide its gradient"),
        Answer("mean over examples", "2 * error / error.size", "2 * error / len(error)", {3: 1}, "not over the n"),
        Answer("no slope of tanh", "(dy @ params.weight2.T) * (1 - h**2)", "dy @ params.weight2.T", {3: 3}, "tanh"),
        Answer("transposed", "Params(x.T @ dz", "Params((x.T @ dz).T", {3: 2}, "transposed"),
        Answer("wrong axis", "h.T @ dy, dy.sum(axis=0)", "h.T @ dy, dy.sum(axis=1)", {3: 1}, "axis 0"),
        Answer("mean of the bias", "h.T @ dy, dy.sum(axis=0)", "h.T @ dy, dy.mean(axis=0)", {3: 1}, "the sum"),
        Answer("0 / 0", "abs(a - b) / larger if larger else 0.0", "abs(a - b) / larger", {4: 1}),
        Answer("absolute error", "if max(errors) > 1e-4", "if max(errors) * 1e-6 > 1e-4", {5: 2}),
        Answer(
            "one direction",
            "draw.standard_normal((3, *x.shape))",
            "np.eye(x.size)[:3].reshape(-1, *x.shape)",
            {5: 3},
        ),
        Answer("unseeded", "np.random.default_rng(seed)\n    wrong", "np.random.default_rng()\n    wrong", {5: 1}),
    ],
    "set_2_layers": [
        Answer("one key", 'he_normal()(fold_in(key, "weight")', "he_normal()(key", {1: 1}, "Draw it from"),
        Answer("no dtype", "fans, *fans, dtype)\n", "fans, *fans, np.float32)\n", {1: 2}),
        Answer("transposed", "x.T @ dy", "dy.T @ x", {1: 2}, "transposed"),
        Answer("a mean", "x.T @ dy", "x.T @ dy / len(x)", {1: 2}, "already the gradient"),
        Answer("wrong axis", "dy.sum(axis=0)", "dy.sum(axis=1)", {1: 2}, "axis 0"),
        Answer("always dx", "dy @ params.weight.T if need_dx else None", "dy @ params.weight.T", {1: 2}),
        Answer("residuals kept", "state, x if train else None)", "state, x)", {1: 2}, "kept"),
        Answer(
            "dy written to",
            "    x = check_residuals(settings, residuals)\n",
            "    x = check_residuals(settings, residuals)\n    dy /= 1\n",
            {1: 1},
        ),
        Answer("x in place", "np.maximum(x, 0), state", "np.maximum(x, 0, out=x), state", {2: 2}, "writes"),
        Answer("slope at 0", "x > 0 if train", "x >= 0 if train", {2: 1}, "At x = 0"),
        Answer("x kept", "x > 0 if train", "(x > 0).astype(x.dtype) if train", {2: 1}, "bytes"),
        Answer(
            "columns", "parts / parts.sum(axis=-1, keepdims=True)", "parts / parts.sum(axis=0)", {3: 1}, "each column"
        ),
        Answer(
            "mean forgotten", "return float(value), dlogits / n", "return float(value), dlogits", {3: 4}, "divide by n"
        ),
        Answer("a sum", "labels].mean()", "labels].sum()", {3: 3}, "the mean is asked"),
        Answer("wrong sign", "value = -log", "value = log", {3: 3}, "sign"),
        Answer("overflow", "shifted = logits - logits.max(axis=-1, keepdims=True)", "shifted = 1 * logits", {3: 1}),
        Answer("float64", "dlogits / n", "dlogits / np.float64(n)", {3: 1}, "float32"),
        Answer("one key for all", "layer.init(fold_in(key, i), in_shape", "layer.init(key, in_shape", {4: 1}),
        Answer("old states", "states.append(its_state)\n        kept", "states.append(state[i])\n        kept", {4: 1}),
        Answer("no train", "child_key(key, layer, i), train=train", "child_key(key, layer, i), train=True", {4: 2}),
        Answer("order", "tuple(reversed(gradients))", "tuple(gradients)", {4: 3}),
        Answer("need_dx", "need_dx=need_dx or i > 0", "need_dx=need_dx", {4: 3}),
    ],
    "set_3_training": [
        Answer("uphill", "w - lr * g, params", "w + lr * g, params", {1: 1}, "Downhill"),
        Answer("damped", "decay * v - lr * g", "decay * v - (1 - decay) * lr * g", {1: 2}, "not (1 - decay)"),
        Answer("old velocity", "w + v, params, velocity", "w + v, params, opt_state", {1: 2}, "new velocity"),
        Answer(
            "in place",
            "tree.map(lambda w, g: w - lr * g, params, grads)",
            "tree.map(lambda w, g: np.subtract(w, lr * g, out=w), params, grads)",
            {1: 2},
        ),
        Answer("no correction", "1 - b1 ** (step + 1), 1 - b2 ** (step + 1)", "1, 1", {2: 3}, "begin at zero"),
        Answer(
            "t = step", "b1 ** (step + 1), 1 - b2 ** (step + 1)", "b1 ** max(step, 1), 1 - b2 ** max(step, 1)", {2: 2}
        ),
        Answer("t = step + 2", "1 - b1 ** (step + 1)", "1 - b1 ** (step + 2)", {2: 3}),
        Answer("epsilon", "(np.sqrt(v / v_share) + epsilon)", "np.sqrt(v / v_share + epsilon)", {2: 2}, "not under"),
        Answer("moments in place", "b1 * m + (1 - b1) * g", "np.add(b1 * m, (1 - b1) * g, out=m)", {2: 1}, "writes"),
        Answer("last dropped", "range(0, n, batch_size)]", "range(0, n - batch_size + 1, batch_size)]", {3: 3}),
        Answer(
            "one epoch",
            'order = generator(fold_in(fold_in(Key(seed), "shuffle"), epoch))',
            'order = generator(fold_in(Key(seed), "shuffle"))',
            {3: 1},
        ),
        Answer("unshuffled", "epoch)).permutation(n)", "epoch)).permutation(n) * 0 + np.arange(n)", {3: 2}),
        Answer("with replacement", "epoch)).permutation(n)", "epoch)).integers(0, n, n)", {3: 2}),
        Answer("no key's step", '"step"), state.step)', '"step"), 0)', {4: 1}, "key"),
        Answer("evaluated", "key=key, train=True", "key=key, train=False", {4: 4}),
        Answer("net's state", "TrainState(params, net_state,", "TrainState(params, state.state,", {4: 1}, "apply gave"),
        Answer(
            "optimizer's state",
            "net_state, opt_state, state.step + 1",
            "net_state, state.opt_state, state.step + 1",
            {4: 2},
            "to be kept",
        ),
        Answer(
            "always the first epoch",
            "batches(len(x), batch_size, state.seed, epoch)",
            "batches(len(x), batch_size, state.seed, 0)",
            {4: 1},
        ),
        Answer("from step 0", "range(state.step, state.step + steps)", "range(steps)", {4: 1}),
        Answer(
            "float16",
            "np.savez(file, *tree.flatten(state))",
            "np.savez(file, *[np.float16(leaf) for leaf in tree.flatten(state)])",
            {5: 3},
        ),
        Answer("another path", 'with open(path, "wb") as file:', 'with open(f"{path}.npz", "wb") as file:', {5: 4}),
        Answer(
            "seed of like", "int(state.step), int(state.seed)", "int(state.step), like.seed", {5: 3}, "not of `like`"
        ),
        Answer("arrays for ints", "int(state.step), int(state.seed)", "state.step, state.seed", {5: 3}),
    ],
    "set_4_convolution": [
        Answer(
            "one window too few", "return (size - kernel) // stride + 1", "return (size - kernel) // stride", {1: 3}
        ),
        Answer("a copy", "column, channel), writeable=False)", "column, channel)).copy()", {1: 1}, "a copy"),
        Answer("writable", ", writeable=False)", ")", {1: 1}, "write to them"),
        Answer(
            "strides of C order",
            "image, row, column, channel = x.strides",
            "image, row, column, channel = np.zeros(x.shape).strides",
            {1: 1},
            "x.strides",
        ),
        Answer(
            "transposed cells", "column * stride, row, column, channel", "column * stride, column, row, channel", {1: 3}
        ),
        Answer("flipped", "stride), weight, optimize", "stride), weight[::-1, ::-1], optimize", {2: 3}, "flipped"),
        Answer("no bias", "weight, optimize=True) + bias", "weight, optimize=True)", {2: 3}, "bias is missing"),
        Answer("stride left out", "windows(x, len(weight), stride)", "windows(x, len(weight))", {2: 1}, "left out"),
        Answer("float64", "weight, optimize=True) + bias", "weight, optimize=True) + bias.astype(np.float64)", {2: 1}),
        Answer("a mean", "return dweight, dy.sum", "return dweight / len(x), dy.sum", {3: 3}, "already the gradient"),
        Answer("wrong axes", "dy.sum(axis=(0, 1, 2))", "dy.sum(axis=(1, 2))", {3: 1}),
        Answer("no sum", "dx[:, rows, columns] += dy", "dx[:, rows, columns] = dy", {4: 4}, "several windows"),
        Answer("transposed kernel", "weight[k, l].T", "weight[l, k].T", {4: 4}),
        Answer("flipped", "weight[k, l].T", "weight[-1 - k, -1 - l].T", {4: 4}, "not flipped"),
        Answer(
            "no stride",
            "slice(k, k + oh * stride, stride), slice(l, l + ow * stride, stride)",
            "slice(k, k + oh), slice(l, l + ow)",
            {4: 1},
        ),
        Answer("mean", "np.take_along_axis(blocks, winner, axis=-1)[..., 0]", "blocks.mean(axis=-1)", {5: 1}),
        Answer(
            "ties",
            "winner = blocks.argmax(axis=-1)",
            "winner = size * size - 1 - blocks[..., ::-1].argmax(axis=-1)",
            {5: 1},
            "The last",
        ),
        Answer("ones", "winner, dy[..., None]", "winner, np.ones_like(dy)[..., None]", {5: 2}, "not 1"),
        Answer("no relu", "max_pool_apply(np.maximum(z, 0), 2)", "max_pool_apply(z, 2)", {6: 1}),
        Answer("no slope of relu", "dpooled) * (z > 0)", "dpooled)", {6: 1}),
    ],
    "set_5_generalisation": [
        Answer("not scaled", " >= rate) / (1 - rate))", " >= rate) / 1)", {1: 3}, "so that the mean stays"),
        Answer("turned round", "random(x.shape) >= rate) / (1 - rate)", "random(x.shape) < rate) / (1 - rate)", {1: 3}),
        Answer("float64", ").astype(x.dtype)\n", ")\n", {1: 2}, "float64"),
        Answer("always", "    if not train:\n        return x, None\n", "", {1: 1}),
        Answer(
            "fresh draws",
            "dx: Array = dy * residuals",
            "dx = dy * (generator(Key(0)).random(dy.shape) < 0.6) / 0.6",
            {1: 1},
        ),
        Answer("running in training", "if train else state\n", "if False else state\n", {2: 5}, "not the running"),
        Answer("batch in evaluation", "if train else state\n", "if True else state\n", {2: 1}, "running ones"),
        Answer(
            "wrong axis",
            "x.mean(axis=0), x.var(axis=0)",
            "x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)",
            {2: 5},
            "axis 0",
        ),
        Answer("n - 1", "x.var(axis=0)", "x.var(axis=0, ddof=1)", {2: 5}, "n - 1"),
        Answer(
            "decay turned", "decay * old + (1 - decay) * new", "(1 - decay) * old + decay * new", {2: 1}, "weight decay"
        ),
        Answer(
            "state mutated",
            "    return y, NormState(*running), (normal, deviation)",
            "    for old, new in zip(state, running, strict=True):\n        old[:] = new\n"
            "    return y, state, (normal, deviation)",
            {2: 1},
            "writes to this argument",
        ),
        Answer(
            "constants",
            "(dnormal - dnormal.mean(axis=0) - normal * (dnormal * normal).mean(axis=0))",
            "dnormal",
            {2: 2},
            "depend on x as well",
        ),
        Answer("variance constant", " - normal * (dnormal * normal).mean(axis=0)", "", {2: 2}, "The variance"),
        Answer("mean of shift", "dy.sum(axis=0)), dx", "dy.mean(axis=0)), dx", {2: 1}, "already the gradient"),
        Answer("opposite", "firsts = most - offsets", "firsts = most + offsets", {3: 2}, "down and to the right"),
        Answer("wrapped", "(most, most), (0, 0)))\n", '(most, most), (0, 0)), mode="wrap")\n', {3: 1}, "np.roll"),
        Answer(
            "all alike",
            "(n, 2))\n    firsts = most - offsets",
            "(1, 2)).repeat(n, axis=0)\n    firsts = most - offsets",
            {3: 2},
            "of its own",
        ),
        Answer("unseeded", "\n    offsets = generator(key)", "\n    offsets = np.random.default_rng()", {3: 3}),
        Answer("ties", "if loss < lowest", "if loss <= lowest", {4: 1}),
        Answer("one too late", "last - best >= patience", "last - best > patience", {4: 3}),
        Answer("all at once", "enumerate(losses):", "enumerate(list(losses)):", {4: 1}, "no list"),
        Answer("n", "np.std(values, ddof=1)", "np.std(values)", {5: 1}, "n - 1"),
        Answer("deviation of one", "ddof=1) / math.sqrt(len(values))", "ddof=1)", {5: 1}, "smaller by sqrt(n)"),
        Answer(
            "unpaired",
            "    mean, error = mean_and_error([x - y for x, y in zip(a, b, strict=True)])\n",
            "    (m, e), (n, f) = mean_and_error(a), mean_and_error(b)\n    mean, error = m - n, math.hypot(e, f)\n",
            {5: 1},
            "differences a[i] - b[i]",
        ),
        Answer("any difference", "if abs(mean) > times * error", "if mean", {5: 1}),
        Answer(
            "chosen by the test",
            "key=lambda setting: validation[setting][0]",
            "key=lambda setting: np.mean([t for _, t in results[setting]])",
            {5: 1},
            "best on the test part",
        ),
        Answer("one seed", "for seed in seeds]", "for seed in [seeds[0]] * len(seeds)]", {5: 2}),
    ],
    "set_6_sequences": [
        Answer(
            "repeats lost",
            "gradient: Array = is_token.T.astype(dy.dtype) @ dy.reshape(-1, dy.shape[-1])",
            "gradient = np.zeros((vocabulary, dy.shape[-1]))\n    gradient[tokens] += dy",
            {1: 1},
            "last of several",
        ),
        Answer("transposed", "is_token.T.astype", "is_token.astype", {1: 2}),
        Answer("no tanh", "np.tanh(x[:, t] @ params.weight_x", "(x[:, t] @ params.weight_x", {2: 6}, "tanh"),
        Answer("no memory", " + h[:, t] @ params.weight_h", "", {2: 5}, "before is missing"),
        Answer("transposed weight", "h[:, t] @ params.weight_h", "h[:, t] @ params.weight_h.T", {2: 5}, "transposed"),
        Answer("nothing comes back", "(dh[:, t] + later)", "dh[:, t]", {2: 4}, "comes back"),
        Answer("wrong time", "h[:, :-1].reshape", "h[:, 1:].reshape", {2: 2}),
        Answer("forward in time", "for t in reversed(range(dh.shape[1])):", "for t in range(dh.shape[1]):", {2: 4}),
        Answer(
            "dh written to",
            "        dz[:, t] = (dh[:, t] + later) *",
            "        dh[:, t] += later\n        dz[:, t] = dh[:, t] *",
            {2: 4},
            "writes",
        ),
        Answer(
            "not causal", "np.tri(time, dtype=bool)", "np.ones((time, time), dtype=bool)", {3: 6}, "before it alone"
        ),
        Answer(
            "not scaled", "k.transpose(0, 2, 1) / np.sqrt(features)", "k.transpose(0, 2, 1)", {3: 4}, "sqrt(features)"
        ),
        Answer(
            "wrong axis",
            "shares / shares.sum(axis=-1, keepdims=True)",
            "shares / shares.sum(axis=-2, keepdims=True)",
            {3: 6},
        ),
        Answer(
            "overflow", "np.exp(scores - scores.max(axis=-1, keepdims=True))", "np.exp(scores)", {3: 1}, "overflows"
        ),
        Answer(
            "softmax's slope",
            "(dshares - (dshares * shares).sum(axis=-1, keepdims=True))",
            "dshares",
            {3: 2},
            "all scores of its row",
        ),
        Answer(
            "keys and queries",
            "return dscores @ k, dscores.transpose(0, 2, 1) @ q,",
            "return dscores.transpose(0, 2, 1) @ q, dscores @ k,",
            {3: 2},
        ),
        Answer("times the temperature", "/ temperature\n    sums", "* temperature\n    sums", {4: 1}, "Divide by"),
        Answer("no temperature 0", "    if temperature == 0:\n        return int(np.argmax(logits))\n", "", {4: 1}),
        Answer(
            "overflow",
            "(np.asarray(logits, np.float64) - np.max(logits))",
            "np.asarray(logits, np.float64)",
            {4: 1},
            "overflows",
        ),
        Answer("greedy", "int(np.argmax(sums > generator(key).random() * sums[-1]))", "int(np.argmax(logits))", {4: 2}),
        Answer("one key", "fold_in(key, i), temperature", "key, temperature", {4: 1}, "of its own"),
        Answer("prompt written to", "tokens = list(prompt)", "tokens = prompt", {4: 1}, "writes"),
        Answer("last token alone", "next_logits(tokens), fold", "next_logits(tokens[-1:]), fold", {4: 2}),
        Answer("no temperature", "fold_in(key, i), temperature)", "fold_in(key, i))", {4: 2}),
    ],
}
