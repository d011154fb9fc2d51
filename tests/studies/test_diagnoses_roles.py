"""A study that knows the roles of its hyperparameters is diagnosed by them."""

import dataclasses

import pytest
from simulated import spread

import tfplaybook as pb

STUDY = dataclasses.replace(
    spread(40), roles=pb.search.Roles(scientific=["optimizer"], fixed={"width": 8})
)


def test_scientific_hyperparameters_are_compared_with_the_caveat():
    diagnosis = STUDY.diagnose()
    assert (
        diagnosis["scientific_comparison"]
        == STUDY.diagnose(scientific=["optimizer"])["scientific_comparison"]
    )
    assert "Every conclusion holds for width=8 only (C1)." in str(diagnosis)


@pytest.mark.parametrize("roles", [None, pb.search.Roles(nuisance=["optimizer"])])
def test_without_scientific_ones_there_is_nothing_to_compare(roles):
    diagnosis = dataclasses.replace(STUDY, roles=roles).diagnose()
    assert "scientific_comparison" not in {finding.name for finding in diagnosis.findings}
    assert "Every conclusion" not in str(diagnosis)


def test_a_study_of_one_configuration_compares_nothing():
    roles = pb.search.Roles(scientific=["optimizer"])
    space = tuple(
        dataclasses.replace(h, kind="fixed", values=("adam",)) if h.name == "optimizer" else h
        for h in STUDY.space
    )
    diagnosis = dataclasses.replace(STUDY, roles=roles, space=space).diagnose()
    assert "scientific_comparison" not in {finding.name for finding in diagnosis.findings}
