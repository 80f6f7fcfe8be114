"""How many processors this process may use."""


def num_processors() -> int:
    """Return the processors that this process may use: fewer than the machine has in a container or under taskset.

    joblib asks the operating system for the affinity and the control group's quota. `LOKY_MAX_CPU_COUNT` limits it.
    """
    from joblib import cpu_count  # here, as it takes a while to import

    return max(1, cpu_count())
