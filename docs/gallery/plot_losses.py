"""
Losses and what they pull at
============================

What three losses say of one example with two classes, by how far the right class's logit is ahead, and how hard each
pulls there. The hinge is content one ahead. Cross-entropy never is, and pulls at most with 1, however wrong the
example. Focal loss hardly looks at what is already right.
"""

import numpy as np
from _save import save, subplots

from funcnn.losses import multiclass_hinge, softmax_cross_entropy, softmax_focal

margins = np.linspace(-4, 4, 161)
label = np.array([0])
figure, (values, slopes) = subplots(1, 2, height=3.2, sharex=True)
for name, loss in (("cross-entropy", softmax_cross_entropy), ("hinge", multiclass_hinge), ("focal", softmax_focal)):
    results = [loss(np.array([[margin, 0.0]]), label) for margin in margins]
    values.plot(margins, [value for value, _ in results], label=name)
    slopes.plot(margins, [-dlogits[0, 0] for _, dlogits in results])
values.set(title="loss", xlabel="logits ahead")
slopes.set(title="pull on the right logit", xlabel="logits ahead")
for axes in (values, slopes):
    axes.grid(True)
values.legend()
save(figure, "losses")
