"""Keskar's ε-sharpness φ in percent, in the full space and in random subspaces: `landscape.sharpness`.

certificate: converged (of all trials), projected_gradient (the largest over trials), evaluations (of all rows).
"""

from landscape import sharpness
from landscape.measures.row import Row, Subject


def rows(subject: Subject) -> list[Row]:
    """φ for every space and ε, mean over trials and standard deviation over trials."""
    found = sharpness.measure(
        subject.problem, subject.keskar, subject.w, lambda done, total, what: subject.watch(what)
    )  # fmt: skip
    spec = subject.keskar
    return [
        Row(
            f"sharpness {space} ε={epsilon:g} (%)",
            float(found.sharpness[i, j]),
            float(found.deviation[i, j]),
            {
                "converged": all(found.conditions["converged"][i][j]),
                "projected_gradient": float(found.projected_gradient[i, j].max()),
                "evaluations": found.evaluations,
            },
        )
        for i, space in enumerate(spec.spaces)
        for j, epsilon in enumerate(spec.epsilons)
    ]
