"""
Programs of others that know nothing of a tunnel, at both ends of one.
"""
