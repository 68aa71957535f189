"""Losses at many points of one affine slice: recorded once, with everything that can be formed once formed once."""
