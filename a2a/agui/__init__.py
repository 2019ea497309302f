"""AG-UI 1.0 at `POST /ag-ui`: front ends start runs, and get their events."""
