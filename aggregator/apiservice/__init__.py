"""The fleet as part of a cluster's own API: group fleet.eidos.nvidia.com, passed on by kube-apiserver.

    service.py      what is served, in one list; added to the HTTP API's application
    front_proxy.py  who may speak for a cluster's users, and whom they speak for
    discovery.py    which resources there are; openapi.py what they look like, for kubectl explain
    resource.py     get, list and watch of any kind; request.py what is asked, render.py how it is written
    collection.py   objects with versions, and what became of them
    nodes.py        NodeSnapshots; runs.py FleetSnapshots, create.py their making; fleets.py the one Fleet
    status.py       errors as kubectl reads them
    ca_bundle.py    the authority that kube-apiserver knows the aggregator by

Types only in types.py and source.py. Everything here speaks JSON, as kubectl does; YAML is made by kubectl.
"""
