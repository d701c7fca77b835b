"""A new network: chosen by its picture, trained sparse from the first step."""
