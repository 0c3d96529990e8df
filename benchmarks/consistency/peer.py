"""datacompy with polars over two Parquet files, run by `children`: what it found, and how long it compared."""

import json
import sys
import time
from pathlib import Path

import polars as pl  # type: ignore[import-not-found]
from datacompy import PolarsCompare  # type: ignore[import-not-found]

folder = Path(sys.argv[1])
old, new = (pl.read_parquet(folder / f"{side}.parquet") for side in ("old", "new"))
begun = time.monotonic()
compared = PolarsCompare(old, new, join_columns=["id"], df1_name="old", df2_name="new")
lost = compared.df1_unq_rows["id"].to_list()
different = compared.all_mismatch()["id"].to_list()
print(json.dumps({"compare_s": time.monotonic() - begun, "lost": lost, "different": different}))
