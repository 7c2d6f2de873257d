"""Other right answers to the problem sets, in other styles than the solutions: they too must get all points."""

__all__ = ["OTHER"]

# By problem set and function, what stands in the place of the answer.
OTHER: dict[str, dict[str, str]] = {
    "set_1_gradients": {
        "slope_of_bump": "return 2 * x * np.exp(-x) - bump(x)",
        "slope_of_tanh": "return (1 - y) * (1 + y)",
        "softplus": "return np.logaddexp(0, x)",
        "slope_of_softplus": """
            return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
        """,
        "numeric_gradient": """
            flat = x.reshape(-1)
            out = []
            for i in range(flat.size):
                a, b = flat.copy(), flat.copy()
                a[i] += step
                b[i] -= step
                out.append((function(a.reshape(x.shape)) - function(b.reshape(x.shape))) / (2 * step))
            return np.array(out).reshape(x.shape)
        """,
        "backward": """
            x, h = residuals
            dw2 = sum(np.outer(h[i], dy[i]) for i in range(len(x)))
            dh = dy.dot(params.weight2.T)
            dz = dh * (1 + h) * (1 - h)
            dw1 = sum(np.outer(x[i], dz[i]) for i in range(len(x)))
            return Params(dw1, dz.sum(0), dw2, dy.sum(0)), dz.dot(params.weight1.T)
        """,
    },
    "set_2_layers": {
        "dense_apply": """
            y = np.einsum("ni,io->no", x, params.weight) + params.bias
            if train:
                return Applied(y, state, (x,))
            return Applied(y, state, None)
        """,
        "dense_backward": """
            (x,) = check_residuals(settings, residuals)
            dw = np.einsum("ni,no->io", x, dy)
            db = np.einsum("no->o", dy)
            dx = None
            if need_dx:
                dx = np.einsum("no,io->ni", dy, params.weight)
            return Gradients(DenseParams(dw, db), dx)
        """,
        "relu_apply": """
            mask = x > 0
            return Applied(
                np.where(mask, x, np.zeros_like(x)),
                state,
                np.packbits(mask.reshape(-1)) if False else (mask if train else None),
            )
        """,
        "softmax": """
            e = np.exp(logits - np.max(logits, axis=1)[:, None])
            return e / np.sum(e, axis=1)[:, None]
        """,
        "softmax_cross_entropy": """
            m = logits.max(axis=1)[:, None]
            logsum = m[:, 0] + np.log(np.exp(logits - m).sum(axis=1))
            cost = logsum - logits[np.arange(len(labels)), labels]
            onehot = np.eye(logits.shape[1], dtype=logits.dtype)[labels]
            return float(np.mean(cost)), (softmax(logits) - onehot) / len(labels)
        """,
        "serial_apply": """
            new = []
            res = []
            for i, layer in enumerate(settings.layers):
                r = layer.apply(params[i], state[i], x, key=child_key(key, layer, i), train=train)
                x = r.y
                new.append(r.state)
                res.append(r.residuals)
            if not train:
                return Applied(x, tuple(new), None)
            return Applied(x, tuple(new), tuple(res))
        """,
        "serial_backward": """
            residuals = check_residuals(settings, residuals)
            grads = [None] * len(settings.layers)
            for i in range(len(settings.layers) - 1, -1, -1):
                want = True if i > 0 else need_dx
                g = settings.layers[i].backward(params[i], residuals[i], dy, need_dx=want)
                grads[i] = g.params
                dy = g.dx
            return Gradients(tuple(grads), dy)
        """,
    },
    "set_3_training": {
        "momentum_update": """
            vs = [decay * v - lr * g for v, g in zip(tree.flatten(opt_state), tree.flatten(grads))]
            ps = [p + v for p, v in zip(tree.flatten(params), vs)]
            return tree.unflatten(params, ps), tree.unflatten(params, vs)
        """,
        "adam_update": """
            t = step + 1
            m = tree.map(lambda m, g: m + (1 - b1) * (g - m), opt_state[0], grads)
            v = tree.map(lambda v, g: v + (1 - b2) * (g**2 - v), opt_state[1], grads)
            rate, root = lr / (1 - b1**t), np.sqrt(1 - b2**t)
            new = tree.map(lambda w, m, v: w - rate * m / (np.sqrt(v) / root + epsilon), params, m, v)
            return new, (m, v)
        """,
        "train": """
            k = int(np.ceil(len(x) / batch_size))
            losses = []
            for _ in range(steps):
                i = batches(len(x), batch_size, state.seed, state.step // k)[state.step % k]
                state, l = train_step(net, optimizer, state, x[i], labels[i])
                losses.append(l)
            return state, losses
        """,
        "save_state": """
            leaves = tree.flatten(state)
            with open(path, "wb") as f:
                np.savez(f, **{f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)})
        """,
        "load_state": """
            f = np.load(path)
            leaves = [f[f"leaf{i}"] for i in range(len(f.files))]
            s = tree.unflatten(like, leaves)
            return TrainState(s.params, s.state, s.opt_state, int(s.step), int(s.seed))
        """,
    },
    "set_4_convolution": {
        "windows": """
            v = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
            return v[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
        """,
        "conv_apply": """
            k = len(weight)
            n, h, w, c = x.shape
            f = weight.shape[3]
            oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
            y = np.zeros((n, oh, ow, f), x.dtype)
            for i in range(oh):
                for j in range(ow):
                    win = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
                    y[:, i, j] = win.reshape(n, -1) @ weight.reshape(-1, f) + bias
            return y
        """,
        "conv_params_gradient": """
            n, oh, ow, f = dy.shape
            dw = np.zeros((size, size, x.shape[3], f), x.dtype)
            for i in range(oh):
                for j in range(ow):
                    win = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
                    dw += np.tensordot(win, dy[:, i, j], axes=([0], [0]))
            return dw, dy.sum((0, 1, 2))
        """,
        "conv_input_gradient": """
            n, oh, ow, f = dy.shape
            k = len(weight)
            dx = np.zeros((n, *in_size, weight.shape[2]), dy.dtype)
            for i in range(oh):
                for j in range(ow):
                    dx[:, i * stride : i * stride + k, j * stride : j * stride + k] += np.tensordot(
                        dy[:, i, j], weight, axes=([1], [3])
                    )
            return dx
        """,
        "max_pool_apply": """
            n, h, w, c = x.shape
            y = np.full((n, h // size, w // size, c), -np.inf, x.dtype)
            for k in range(size):
                for l in range(size):
                    y = np.maximum(y, x[:, k::size, l::size])
            return y, (x, y, size)
        """,
        "max_pool_backward": """
            x, y, size = residuals
            dx = np.zeros_like(x)
            done = np.zeros(y.shape, bool)
            for k in range(size):
                for l in range(size):
                    here = (x[:, k::size, l::size] == y) & ~done
                    dx[:, k::size, l::size] = here * dy
                    done |= here
            return dx
        """,
    },
    "set_5_generalisation": {
        "dropout_apply": """
            if train:
                keep = generator(key).random(x.shape) >= rate
                return np.where(keep, x / (1 - rate), 0).astype(x.dtype), (keep, rate)
            return x, None
        """,
        "dropout_backward": """
            keep, rate = residuals
            return np.where(keep, dy / (1 - rate), 0)
        """,
        "batch_norm_apply": """
            if not train:
                return params.scale * (x - state.mean) / np.sqrt(state.variance + epsilon) + params.shift, state, None
            mu = np.sum(x, axis=0) / len(x)
            var = np.sum((x - mu) ** 2, axis=0) / len(x)
            y = params.scale * (x - mu) / np.sqrt(var + epsilon) + params.shift
            return (
                y,
                NormState(decay * state.mean + (1 - decay) * mu, decay * state.variance + (1 - decay) * var),
                (x, mu, var, epsilon),
            )
        """,
        "batch_norm_backward": """
            x, mu, var, eps = residuals
            n = len(x)
            s = np.sqrt(var + eps)
            xh = (x - mu) / s
            dxh = dy * params.scale
            dvar = np.sum(dxh * (x - mu) * -0.5 * (var + eps) ** -1.5, axis=0)
            dmu = -np.sum(dxh / s, axis=0) + dvar * np.mean(-2 * (x - mu), axis=0)
            dx = dxh / s + dvar * 2 * (x - mu) / n + dmu / n
            return NormParams(np.sum(dy * xh, 0), np.sum(dy, 0)), dx
        """,
        "moved": """
            n, h, w, c = images.shape
            off = generator(key).integers(-most, most + 1, (n, 2))
            out = np.zeros_like(images)
            for i in range(n):
                dy, dx = off[i]
                out[i, max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = images[
                    i, max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)
                ]
            return out
        """,
        "early_stopping": """
            best = None
            since = 0
            for epoch, loss in enumerate(losses):
                if best is None or loss < best[1]:
                    best = (epoch, loss)
                    since = 0
                else:
                    since += 1
                if since == patience:
                    break
            return best[0], epoch
        """,
        "mean_and_error": """
            n = len(values)
            m = sum(values) / n
            return m, math.sqrt(sum((v - m) ** 2 for v in values) / (n - 1)) / math.sqrt(n)
        """,
        "study": """
            val, test = {}, {}
            for s in settings:
                val[s], test[s] = [], []
                for seed in seeds:
                    v, t = trial(s, seed)
                    val[s].append(v)
                    test[s].append(t)
            table = {s: mean_and_error(val[s]) for s in settings}
            chosen = settings[0]
            for s in settings:
                if table[s][0] > table[chosen][0]:
                    chosen = s
            return Study(table, chosen, mean_and_error(test[chosen]), verdict(test[chosen], test[settings[0]]))
        """,
    },
    "set_6_sequences": {
        "embed_gradient": """
            g = np.zeros((vocabulary, dy.shape[2]), dy.dtype)
            np.add.at(g, tokens, dy)
            return g
        """,
        "rnn_apply": """
            h = np.zeros((len(x), len(params.bias)))
            hs = []
            for t in range(x.shape[1]):
                h = np.tanh(np.matmul(x[:, t], params.weight_x) + np.matmul(h, params.weight_h) + params.bias)
                hs.append(h)
            return np.stack(hs, 1), {"x": x, "hs": hs}
        """,
        "rnn_backward": """
            x, hs = residuals["x"], residuals["hs"]
            gx, gh, gb = (np.zeros_like(p) for p in params)
            dx = np.zeros_like(x)
            carry = 0
            for t in range(len(hs) - 1, -1, -1):
                dz = (dh[:, t] + carry) * (1 - hs[t] * hs[t])
                gx = gx + x[:, t].T @ dz
                if t:
                    gh = gh + hs[t - 1].T @ dz
                gb = gb + dz.sum(0)
                dx[:, t] = dz @ params.weight_x.T
                carry = dz @ params.weight_h.T
            return RnnParams(gx, gh, gb), dx
        """,
        "attention_apply": """
            n, time, f = q.shape
            y = np.zeros_like(v)
            w = np.zeros((n, time, time))
            for b in range(n):
                for i in range(time):
                    s = k[b, : i + 1] @ q[b, i] / np.sqrt(f)
                    e = np.exp(s - s.max())
                    e = e / e.sum()
                    w[b, i, : i + 1] = e
                    y[b, i] = e @ v[b, : i + 1]
            return y, (q, k, v, w)
        """,
        "attention_backward": """
            q, k, v, w = residuals
            dw = np.einsum("nif,njf->nij", dy, v)
            ds = w * (dw - np.sum(w * dw, axis=2)[:, :, None])
            r = np.sqrt(q.shape[2])
            return (
                np.einsum("nij,njf->nif", ds, k) / r,
                np.einsum("nij,nif->njf", ds, q) / r,
                np.einsum("nij,nif->njf", w, dy),
            )
        """,
        "sample": """
            if temperature == 0:
                return int(logits.argmax())
            z = logits / temperature
            z = z - z.max()
            p = np.exp(z)
            p = p / p.sum()
            u = generator(key).random()
            total = 0.0
            for i in range(len(p)):
                total += p[i]
                if total > u:
                    return i
            return len(p) - 1
        """,
    },
}
