"""Who compares the pairs: simulated annotators, a file, people, a language model or a function."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from accord.config_base import Config, Count


class Simulated(Config):
    """Simulated annotators: a stand-in for people that says so wherever it appears."""

    kind: Literal["simulated"] = "simulated"
    gold: Literal["positivity", "positivity_brief", "positivity_sincere"] = Field(
        "positivity", description="the hidden utility; no training stage may read it"
    )
    annotators: Count = 5
    labels_per_pair: Count = 1
    noise: Annotated[float, Field(gt=0)] = Field(
        0.25, description="Bradley-Terry temperature, in units of gold"
    )
    reliability_spread: Annotated[float, Field(ge=0)] = Field(
        0.3, description="standard deviation of log inverse temperature between annotators"
    )
    tie_margin: Annotated[float, Field(ge=0)] = Field(
        0.05, description="Rao-Kupper threshold, in units of gold"
    )
    length_bias: float = Field(0.0, description="units of gold that annotators give per extra 10 words")
    phrases: tuple[str, ...] = Field((), description="what phrase_bias is about; any case")
    phrase_bias: float = Field(
        0.0, description="units of gold that annotators give each time an answer has one of the phrases"
    )
    side_bias: float = Field(0.0, description="units of gold that annotators give to the left answer")

    @model_validator(mode="after")
    def _enough(self) -> Simulated:
        if self.labels_per_pair > self.annotators:
            raise ValueError(
                f"labels_per_pair is {self.labels_per_pair}, but there are {self.annotators} annotators"
            )
        if self.phrase_bias and not any(self.phrases):
            raise ValueError(f"phrase_bias is {self.phrase_bias:g}, but phrases is empty: name the phrases")
        if "" in self.phrases:
            raise ValueError("phrases has an empty phrase, which is everywhere: leave it out")
        return self


class FileJudge(Config):
    """Labels that people (or another program) write into a file; the run pauses until it is there."""

    kind: Literal["file"] = "file"
    path: str = Field(description="JSON Lines: {pair id, verdict, annotator}; {round} is replaced")


class HumanJudge(Config):
    """People who compare the pairs in the labelling app (``accord label RUN``); the run waits for them."""

    kind: Literal["human"] = "human"
    labels_per_pair: Count = Field(1, description="different people that judge each pair")
    criterion: str = Field(
        "", description="which of the app's questions the reward model learns; empty: the overall one"
    )


class LlmJudge(Config):
    """A language model as judge, over any endpoint that speaks OpenAI's chat completions.

    Every pair is asked in both orders; replies that disagree make a tie. Never recorded as a person.
    """

    kind: Literal["llm"] = "llm"
    model: str = Field(min_length=1, description="the model's name at the endpoint")
    url: str = Field(pattern=r"^https?://", description="up to the version: http://localhost:8000/v1")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; '' sends none"
    )
    guidelines: str = Field("", description="what to judge by, added to the instruction")
    request: dict[str, Any] = Field(
        {"temperature": 0, "max_tokens": 512}, description="sent with every request as it is"
    )
    concurrency: Count = Field(4, description="pairs asked at once")
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    tries: Count = Field(6, description="for one request, where the endpoint is busy or away")
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    price_in: Annotated[float, Field(ge=0)] = Field(0.0, description="per million tokens sent")
    price_out: Annotated[float, Field(ge=0)] = Field(0.0, description="per million tokens received")
    budget: Annotated[float, Field(gt=0)] | None = Field(
        None, description="in the unit of the prices; what earlier runs spent counts"
    )

    @model_validator(mode="after")
    def _priced(self) -> LlmJudge:
        if self.budget is not None and not self.price_in and not self.price_out:
            raise ValueError(
                f"budget is {self.budget:g}, but price_in and price_out are 0: give prices per million tokens"
            )
        return self


class FunctionJudge(Config):
    """A Python function as judge: pairs in, verdicts out. Never recorded as a person."""

    kind: Literal["function"] = "function"
    path: str = Field(pattern=r"^.+:[A-Za-z_]\w*$", description="module.name:function or ./file.py:function")
    batch_size: Count = Field(64, description="pairs in one call, stored before the next")


Judge = Annotated[Simulated | FileJudge | HumanJudge | LlmJudge | FunctionJudge, Field(discriminator="kind")]
