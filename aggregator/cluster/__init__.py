"""The aggregator inside a cluster: `python -m aggregator --cluster`.

    service.py      everything put together, and what happens when leadership comes and goes
    options.py      what it can be told
    lease.py        which replica leads
    nodes.py        the expected nodes; agentpods.py why an agent is not up
    tokens.py       whose an agent's token is: the cluster's public keys, or a TokenReview
    users.py        whose a user's is, and what they may do
    authority.py    the certificate authority in Secret `eidos-authority`; tlsfiles.py somebody else's certificate
    bundle.py       ConfigMap `eidos-ca`, by which agents know the aggregator
    publishing.py   ConfigMap `eidos-fleet`, the leader's alone, read back by the next, put back when others change it
    guard.py        notices that somebody touched an object of ours

What it may do there: manifests/fleet/base/rbac-aggregator.yaml.
"""
