"""What aiophlo costs, measured beside what people would use instead."""
