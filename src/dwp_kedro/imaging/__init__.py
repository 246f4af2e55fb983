"""From a scan on disk to a network's input, and from a network's output back to the scan's own grid."""
