#!/bin/sh
# Package: polars 2.1.0 beside pyarrow 26.0.1, pandas 3.1.1 and duckdb 2.0.1
# Expected: readers of a directory of Parquet files leave out files whose names begin with "_" or ".", as Spark and Arrow do, so that
#           a dataset may hold a description of its files.
# Observed: PyArrow and pandas leave them out, DuckDB takes *.parquet alone; Polars refuses the directory, also if the file lies in a
#           subdirectory whose name begins with ".".
# Output seen:
#     _info.json: pyarrow 2 rows, pandas 2 rows, duckdb 2 rows, polars InvalidOperationError
#     .info.json: pyarrow 2 rows, pandas 2 rows, duckdb 2 rows, polars InvalidOperationError
#     .info/info.json: pyarrow 2 rows, pandas 2 rows, duckdb 2 rows, polars InvalidOperationError
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1 pandas==3.1.1 duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON_END'
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq

READERS = {
    "pyarrow": lambda path: len(pq.read_table(path)),
    "pandas": lambda path: len(pandas.read_parquet(path)),
    "duckdb": lambda path: len(duckdb.sql(f"select * from read_parquet('{path}')").fetchall()),
    "polars": lambda path: len(polars.read_parquet(path)),
}


def read(reader, path):
    try:
        return f"{reader(path)} rows"
    except polars.exceptions.PolarsError as error:
        return type(error).__name__


for number, name in enumerate(("_info.json", ".info.json", ".info/info.json")):
    directory = Path(f"data-{number}")
    (directory / name).parent.mkdir(parents=True)
    pq.write_table(pa.table({"step": [0, 1]}), directory / "part-0.parquet")
    (directory / name).write_text("{}")
    results = {library: read(reader, str(directory)) for library, reader in READERS.items()}
    print(f"{name}: " + ", ".join(f"{library} {result}" for library, result in results.items()))
    assert results.pop("polars") == "InvalidOperationError", "Polars leaves the file out now"
    assert set(results.values()) == {"2 rows"}
PYTHON_END
