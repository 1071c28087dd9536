"""Doctor: looks at the configuration, the machine, the broker, Redis and the keys, and says what to mend and how."""

from notifier.operator.doctor.examination import examine
from notifier.operator.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
