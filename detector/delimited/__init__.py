"""Text tables (CSV and the like): what training, service and client agree on.

- `encodings`: the encoding of a text file
- `layout`: its delimiter, header and lines above the header; columns by name
- `cells`: numbers and missing cells written as text
"""
