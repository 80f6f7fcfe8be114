"""The page on which a person checks, corrects and signs the differential of a case.

`store` keeps what people decide, `cases` brings predictions into it, `app` serves page and JSON.
"""
