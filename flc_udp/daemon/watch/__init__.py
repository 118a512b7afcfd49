"""What people and monitors see of a node: status, reasons, metrics, and the pages over HTTP."""
