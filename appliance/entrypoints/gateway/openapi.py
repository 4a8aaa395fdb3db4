"""The API's description (OpenAPI 3.1), written by hand: most routes are raw ASGI, which no framework describes.

It lists the fields that the gateway judges or that most callers use. Others go to the engine as
they are, so the schemas are open; fields that are refused are listed in the handbook.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_TEMPERATURE: Schema = {"type": "number", "minimum": 0, "maximum": 2, "default": 1}
_TOKENS: Schema = {"type": "integer", "minimum": 1, "maximum": 262_144}
_STREAM: Schema = {"type": "boolean", "default": False, "description": "Answer as server-sent events."}
_STOP: Schema = {"type": "array", "items": _TEXT, "maxItems": 4}
_EFFORT: Schema = {"enum": ["none", "minimal", "low", "medium", "high", "xhigh"]}
_OBJECT: Schema = {"type": "object"}
_EVENT: Schema = {"type": "object", "required": ["data"], "properties": {"event": _STRING, "data": _STRING}}
_DATA_URL: Schema = {"type": "string", "pattern": "^data:image/", "description": "Nothing is fetched: data: URLs only."}


def api_description(served_model: str) -> Schema:
    """Describe the API of a node that serves this model."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Leeward gateway",
            "version": "1",
            "description": "OpenAI's, Mistral's and Anthropic's ways to ask the one model of this node.",
        },
        "security": [{"bearer": []}, {"x-api-key": []}],
        "paths": {
            "/v1/chat/completions": _asked(
                "Chat", _chat(served_model), "OpenAiError", _openai_answer("chat.completion")
            ),
            "/v1/completions": _asked(
                "Go on where a prompt ends", _completion(served_model), "OpenAiError", _openai_answer("text_completion")
            ),
            "/v1/responses": _asked(
                "Respond; nothing is stored", _responses(served_model), "OpenAiError", _openai_answer("response")
            ),
            "/v1/messages": _asked("Chat, Anthropic's way", _messages(served_model), "AnthropicError", _MESSAGE),
            "/v1/messages/count_tokens": _asked(
                "Count a prompt's tokens", _counted(served_model), "AnthropicError", _COUNTED, streams=False
            ),
            "/v1/models": {"get": _got("List the served model", _MODELS)},
            "/v1/models/{model}": {
                "get": _got("Describe the served model", {"$ref": "#/components/schemas/Model"})
                | {
                    "parameters": [
                        {"name": "model", "in": "path", "required": True, "schema": {"const": served_model, **_STRING}}
                    ]
                }
            },
            "/healthz": {
                "get": {
                    "summary": "Whether requests are taken",
                    "security": [],
                    "responses": {
                        "200": _json("The engine answers and usage can be recorded", _HEALTH),
                        "503": _json("Requests wait", _HEALTH),
                    },
                }
            },
        },
        "components": {"schemas": _SCHEMAS, "securitySchemes": _KEYS},
    }


_HEALTH: Schema = {"type": "object", "required": ["engine", "ledger"]}
_MODELS: Schema = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
}
_MESSAGE: Schema = {
    "type": "object",
    "required": ["type", "content", "usage"],
    "properties": {"type": {"const": "message"}, "content": {"type": "array"}},
}
_COUNTED: Schema = {"type": "object", "required": ["input_tokens"], "properties": {"input_tokens": _COUNT}}
_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key: lwd_…"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_SCHEMAS: Schema = {
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "max_context_length", "capabilities"],
        "properties": {"id": _STRING, "max_context_length": {"type": ["integer", "null"]}, "capabilities": _OBJECT},
    },
    "OpenAiError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "code"],
                "properties": {"message": _STRING, "type": _STRING, "param": {"type": ["string", "null"]}},
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _STRING, "message": _STRING},
            },
        },
    },
}
_REFUSALS = {
    "400": "The request asks for what is not forwarded, or the engine refused it",
    "401": "No valid API key",
    "403": "The API key is not for this network or this model",
    "404": "Another model than the served one",
    "409": "The Idempotency-Key was sent before, with the same request",
    "413": "The body is over 64 MiB",
    "422": "The engine refused the request, or its Idempotency-Key belongs to another",
    "429": "A quota is exhausted; see Retry-After and x-ratelimit-*",
    "502": "The engine failed on this request",
    "503": "The engine does not answer, too many requests wait, or usage cannot be recorded; see Retry-After",
}


def _json(what: str, schema: Schema) -> Schema:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _asked(summary: str, body: Schema, error: str, answer: Schema, *, streams: bool = True) -> Schema:
    whole = _json("The answer", answer)
    if streams:
        whole["content"]["text/event-stream"] = {"schema": _EVENT}
    told = {"$ref": f"#/components/schemas/{error}"}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": whole} | {status: _json(why, told) for status, why in _REFUSALS.items()},
        }
    }


def _got(summary: str, answer: Schema) -> Schema:
    told = {"$ref": "#/components/schemas/OpenAiError"}
    statuses = ("401", "404", "503")
    return {
        "summary": summary,
        "responses": {"200": _json("The answer", answer)} | {each: _json(_REFUSALS[each], told) for each in statuses},
    }


def _openai_answer(kind: str) -> Schema:
    required = ["id", "object", "usage", "output" if kind == "response" else "choices"]
    return {"type": "object", "required": required, "properties": {"object": {"const": kind}, "usage": _OBJECT}}


def _body(served_model: str, required: list[str], fields: Schema) -> Schema:
    model = {"const": served_model, **_STRING}
    return {"type": "object", "required": ["model", *required], "properties": {"model": model, **fields}}


def _list_of_messages(part: Schema, roles: list[str]) -> Schema:
    content = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": part}]}
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": roles}, "content": content},
    }
    return {"type": "array", "minItems": 1, "items": message}


def _part(kind: str, required: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["type", required],
        "additionalProperties": False,
        "properties": {"type": {"const": kind}, required: schema},
    }


def _chat(served_model: str) -> Schema:
    image = {"type": "object", "required": ["url"], "properties": {"url": _DATA_URL}, "additionalProperties": False}
    part = {"anyOf": [_part("text", "text", _TEXT), _part("image_url", "image_url", image)]}
    return _body(
        served_model,
        ["messages"],
        {
            "messages": _list_of_messages(part, ["system", "user"]),
            "max_completion_tokens": _TOKENS,
            "max_tokens": _TOKENS,
            "n": {"type": "integer", "minimum": 1, "maximum": 8, "default": 1},
            "reasoning_effort": _EFFORT,
            "response_format": {"type": "object", "description": "json_object or json_schema, as OpenAI has it."},
            "safe_prompt": {"type": "boolean", "description": "Mistral's: its safety words come first."},
            "stop": {"anyOf": [_TEXT, _STOP]},
            "stream": _STREAM,
            "temperature": _TEMPERATURE,
            "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
            "top_p": _SHARE,
            "tools": {"type": "array", "items": _OBJECT},
        },
    )


def _completion(served_model: str) -> Schema:
    return _body(
        served_model,
        ["prompt"],
        {
            "prompt": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": 1, "items": _TEXT}]},
            "max_tokens": _TOKENS,
            "stop": {"anyOf": [_TEXT, _STOP]},
            "stream": _STREAM,
            "temperature": _TEMPERATURE,
            "top_p": _SHARE,
        },
    )


def _responses(served_model: str) -> Schema:
    part = {"anyOf": [_part("input_text", "text", _TEXT), _part("input_image", "image_url", _DATA_URL)]}
    return _body(
        served_model,
        ["input"],
        {
            "input": {"anyOf": [_TEXT, _list_of_messages(part, ["system", "user"])]},
            "instructions": _STRING,
            "max_output_tokens": _TOKENS,
            "reasoning": {"type": "object", "properties": {"effort": _EFFORT}},
            "store": {"const": False, "description": "Nothing is stored; true is refused."},
            "stream": _STREAM,
            "temperature": _TEMPERATURE,
            "top_p": _SHARE,
            "tools": {"type": "array", "items": {"type": "object", "properties": {"type": {"const": "function"}}}},
        },
    )


def _prompt_fields() -> Schema:
    source = {
        "type": "object",
        "required": ["type", "media_type", "data"],
        "properties": {
            "type": {"const": "base64"},
            "media_type": {"type": "string", "pattern": "^image/"},
            "data": _STRING,
        },
    }
    part = {"anyOf": [_part("text", "text", _TEXT), _part("image", "source", source)]}
    return {"messages": _list_of_messages(part, ["user", "assistant"]), "system": _TEXT}


def _messages(served_model: str) -> Schema:
    more = {
        "max_tokens": _TOKENS,
        "stop_sequences": _STOP,
        "stream": _STREAM,
        "temperature": _SHARE,
        "thinking": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": ["adaptive", "disabled", "enabled"]}},
        },
    }
    return _body(served_model, ["messages", "max_tokens"], _prompt_fields() | more)


def _counted(served_model: str) -> Schema:
    return _body(served_model, ["messages"], _prompt_fields())
