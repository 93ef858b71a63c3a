"""
The gateway that agents attach to: where they and their visitors arrive, and what joins the two.
"""
