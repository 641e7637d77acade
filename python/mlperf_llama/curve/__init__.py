"""MLPerf Endpoints from the same preset: the plan of a curve, and the official client run point by point.

Endpoints is another benchmark than LoadGen's: its own client sends text through the model's chat template to
a server, at fixed numbers of requests at once. Rules: mlcommons/endpoints_policies; client:
mlcommons/endpoints.
"""

from __future__ import annotations

from .plan import FOLDER, PLAN, make
from .points import Curve, Point
from .runs import CLIENT, MEASURED, run

__all__ = ["CLIENT", "FOLDER", "MEASURED", "PLAN", "Curve", "Point", "make", "run"]
