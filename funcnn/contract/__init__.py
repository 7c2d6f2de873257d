"""The contract of a layer as rules that check themselves; users call `funcnn.grad_check.check_contract`."""

__all__: list[str] = []
