"""Read JSON bodies: docs/decisions/0018 gives the reasons for three readers.

- `instances`: entry point; chooses among the readers
- `numbers`: fast reader of arrays of nothing but numbers (simdjson); refuses nothing
- `strict`: reader of every other body (msgspec); turns its errors into problems with a place
- `slices`: reads large bodies, and large tensors of V2, slice by slice with the other two
- `cuts`: finds places where the text of an array can be cut
- `shapes`: rank and shape of instances; pointers to values
- `members`: refuses objects with a repeated member; JSON pointers

`instances` imports all others, `slices` all but `instances`; `numbers` and `members` import none of them.
"""
