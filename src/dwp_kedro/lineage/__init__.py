"""What results were made of: records of it, and the comparison with what they would be made of now."""
