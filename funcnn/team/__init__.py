"""Training one net on several processes that share memory: `Team`, and what each of its members does."""

from funcnn.team.member import TeamError
from funcnn.team.team import Team

__all__ = ["Team", "TeamError"]
