"""Tables in and out: {"columns": [...], "data": [[...], ...]} on the wire; pandas frames, mappings of columns and lists of rows here."""
import math
import numbers


def is_pandas(table):
    return hasattr(table, "to_numpy") and hasattr(table, "columns")


def _cell(value):
    """A value as JSON has it: numpy's scalars become Python's, what is missing becomes null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "item"):
        return _cell(value.item())
    if isinstance(value, numbers.Number):  # Decimal and Fraction: what SQL's NUMERIC columns come as. As text each would be a category
        return _cell(float(value))
    try:
        if value != value:  # pandas.NaT
            return None
    except TypeError:
        return None  # pandas.NA compares with nothing
    return str(value)


def to_wire(table):
    """A pandas DataFrame, {"columns", "data"}, {name: values} or a list of {name: value}."""
    if is_pandas(table):
        columns = [table.iloc[:, i] for i in range(len(table.columns))]  # column by column: a frame as a whole would turn whole numbers into floats
        return {"columns": [str(c) for c in table.columns], "data": [[_cell(v) for v in row] for row in zip(*(c.tolist() for c in columns))]}
    if isinstance(table, dict) and set(table) == {"columns", "data"}:
        return {"columns": list(table["columns"]), "data": [[_cell(v) for v in row] for row in table["data"]]}
    if isinstance(table, dict):
        lengths = {len(v) for v in table.values()}
        if len(lengths) > 1:
            raise ValueError(f"the columns have different lengths: {sorted(lengths)}")
        return {"columns": list(table), "data": [[_cell(v) for v in row] for row in zip(*table.values())]}
    rows = list(table)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "data": [[_cell(row.get(name)) for name in columns] for row in rows]}


def from_wire(frame, like=None):
    """As pandas where pandas went in (its index kept) or is installed and nothing else was asked for; else {"columns", "data"}."""
    if like is not None and not is_pandas(like):
        return frame
    try:
        import pandas
    except ImportError:
        return frame
    index = like.index if like is not None and len(like.index) == len(frame["data"]) else None
    return pandas.DataFrame(frame["data"], columns=frame["columns"], index=index)
