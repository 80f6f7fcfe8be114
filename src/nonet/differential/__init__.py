"""The differential count of each case: shares with intervals, groups of classes, FHIR, and comparison with a person.

Works on tables of predictions; no torch here.
"""
