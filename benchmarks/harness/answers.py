"""What every server here answers to a transfer and to a question about a node."""

# To be filled with an id, which no other answer has.
ACCEPTED = '{{"api_id":"{}","error":""}}'
DESCRIBED = (
    b'{"api_id":"faad0293-f5f0-487e-8ff7-b45ba6c45b25","phlo_id":"p-1",'
    b'"node_id":"n-1","node_type":"multi_party_call","name":"transfers"}'
)
