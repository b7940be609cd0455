"""The real OpenAI SDK against the mock: python sdk_openai.py http://127.0.0.1:8080/v1"""

import sys

import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-test", max_retries=0)
messages = [
    {"role": "system", "content": "You tell a story.\n- Edda: a ferryman"},
    {"role": "user", "content": "I open the door."},
]


def fault(name):
    return {"x-mock-fault": name}


def models():
    assert [model.id for model in client.models.list()] == ["mock"]
    assert client.models.retrieve("mock").object == "model"


def unary():
    answer = client.chat.completions.create(model="mock", messages=messages)
    assert len(answer.choices[0].message.content.split()) >= 40
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 40


def stream():
    chunks = list(
        client.chat.completions.create(
            model="mock",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert len(text.split()) >= 40
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(chunks) - 3


def moderations():
    results = client.moderations.create(input=["hello", "a forbiddenword"]).results
    assert [result.flagged for result in results] == [False, True]
    assert results[1].categories.violence and not results[1].categories.hate
    assert results[1].category_scores.violence > 0.5


def errors():
    expected = {
        "rate_limit": openai.RateLimitError,
        "unauthorized": openai.AuthenticationError,
        "context_length_exceeded": openai.BadRequestError,
        "error_500": openai.InternalServerError,
        "error_529": openai.InternalServerError,
    }
    for name, kind in expected.items():
        try:
            client.chat.completions.create(model="mock", messages=messages, extra_headers=fault(name))
        except kind as error:
            if name == "rate_limit":
                assert error.code == "rate_limit_exceeded"
                assert error.response.headers["retry-after"] == "1"
        else:
            raise AssertionError(f"{name} raised nothing")


def errors_in_band():
    chunks = client.chat.completions.create(
        model="mock", messages=messages, stream=True, extra_headers=fault("error_frame")
    )
    try:
        list(chunks)
    except openai.APIError as error:
        assert error.type == "server_error"
    else:
        raise AssertionError("error_frame raised nothing")


class Speaker(BaseModel):
    character: str
    intent: str


class Beat(BaseModel):
    text: str
    choices: list[str]
    speak: list[Speaker]
    mood: str | None


def structured():
    answer = client.chat.completions.parse(model="mock", messages=messages, response_format=Beat)
    beat = answer.choices[0].message.parsed
    assert beat.text and beat.choices
    assert all(speaker.character == "Edda" for speaker in beat.speak)


for check in [models, unary, stream, moderations, errors, errors_in_band, structured]:
    check()
    print("ok", check.__name__)
