"""Made-up calls as the providers would tell them: for demos, load and tests. Pure except for ``play``.

``plan.plan`` gives the requests of a run in order of time; ``plan.generate_calls`` gives whole calls together with what
they should amount to. Numbers are of the block +91 90000 0xxxx, which the providers' own samples use.
"""
