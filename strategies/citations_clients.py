"""The papers that client rules of the catalogue come from: objectives, gradients, own models."""

from __future__ import annotations

from strategies.citation import Citation

LI_2021_MOON = Citation(
    "li2021model",
    ("Li, Qinbin", "He, Bingsheng", "Song, Dawn"),
    "Model-Contrastive Federated Learning",
    2021,
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "2103.16257",
)

LEE_2022 = Citation(
    "lee2022preservation",
    ("Lee, Gihun", "Jeong, Minchan", "Shin, Yongjin", "Bae, Sangmin", "Yun, Se-Young"),
    "Preservation of the Global Knowledge by Not-True Distillation in Federated Learning",
    2022,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2106.03097",
)

SHI_2023 = Citation(
    "shi2023towards",
    ("Shi, Yujun", "Liang, Jian", "Zhang, Wenqing", "Tan, Vincent Y. F.", "Bai, Song"),
    "Towards Understanding and Mitigating Dimensional Collapse in Heterogeneous Federated Learning",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2210.00226",
)

ZHANG_2022 = Citation(
    "zhang2022federated",
    (
        "Zhang, Jie",
        "Li, Zhiqi",
        "Li, Bo",
        "Xu, Jianghe",
        "Wu, Shuang",
        "Ding, Shouhong",
        "Wu, Chao",
    ),
    "Federated Learning with Label Distribution Skew via Logits Calibration",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2209.00189",
)

ARIVAZHAGAN_2019 = Citation(
    "arivazhagan2019federated",
    (
        "Arivazhagan, Manoj Ghuhan",
        "Aggarwal, Vinay",
        "Singh, Aaditya Kumar",
        "Choudhary, Sunav",
    ),
    "Federated Learning with Personalization Layers",
    2019,
    "",
    "1912.00818",
)

LI_2021_FEDBN = Citation(
    "li2021fedbn",
    ("Li, Xiaoxiao", "Jiang, Meirui", "Zhang, Xiaofei", "Kamp, Michael", "Dou, Qi"),
    "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2102.07623",
)

LI_2021_DITTO = Citation(
    "li2021ditto",
    ("Li, Tian", "Hu, Shengyuan", "Beirami, Ahmad", "Smith, Virginia"),
    "Ditto: Fair and Robust Federated Learning Through Personalization",
    2021,
    "International Conference on Machine Learning (ICML)",
    "2012.04221",
)

COLLINS_2021 = Citation(
    "collins2021exploiting",
    ("Collins, Liam", "Hassani, Hamed", "Mokhtari, Aryan", "Shakkottai, Sanjay"),
    "Exploiting Shared Representations for Personalized Federated Learning",
    2021,
    "International Conference on Machine Learning (ICML)",
    "2102.07078",
)

DENG_2020 = Citation(
    "deng2020adaptive",
    ("Deng, Yuyang", "Kamani, Mohammad Mahdi", "Mahdavi, Mehrdad"),
    "Adaptive Personalized Federated Learning",
    2020,
    "",
    "2003.13461",
)

DINH_2020 = Citation(
    "dinh2020personalized",
    ("Dinh, Canh T.", "Tran, Nguyen H.", "Nguyen, Tuan Dung"),
    "Personalized Federated Learning with Moreau Envelopes",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2006.08848",
)

CALDAROLA_2022 = Citation(
    "caldarola2022improving",
    ("Caldarola, Debora", "Caputo, Barbara", "Ciccone, Marco"),
    "Improving Generalization in Federated Learning by Seeking Flat Minima",
    2022,
    "European Conference on Computer Vision (ECCV)",
    "2203.11834",
)

QU_2022 = Citation(
    "qu2022generalized",
    ("Qu, Zhe", "Li, Xingyu", "Duan, Rui", "Liu, Yao", "Tang, Bo", "Lu, Zhuo"),
    "Generalized Federated Learning via Sharpness Aware Minimization",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2206.02618",
)

SUN_2023 = Citation(
    "sun2023fedspeed",
    ("Sun, Yan", "Shen, Li", "Huang, Tiansheng", "Ding, Liang", "Tao, Dacheng"),
    "FedSpeed: Larger Local Interval, Less Communication Round, and Higher Generalization Accuracy",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2302.10429",
)

FALLAH_2020 = Citation(
    "fallah2020personalized",
    ("Fallah, Alireza", "Mokhtari, Aryan", "Ozdaglar, Asuman"),
    "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic Meta-Learning "
    "Approach",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2002.07948",
)

LIANG_2020 = Citation(
    "liang2020think",
    (
        "Liang, Paul Pu",
        "Liu, Terrance",
        "Ziyin, Liu",
        "Allen, Nicholas B.",
        "Auerbach, Randy P.",
        "Brent, David",
        "Salakhutdinov, Ruslan",
        "Morency, Louis-Philippe",
    ),
    "Think Locally, Act Globally: Federated Learning with Local and Global Representations",
    2020,
    "",
    "2001.01523",
)

OH_2022 = Citation(
    "oh2022fedbabu",
    ("Oh, Jaehoon", "Kim, Sangmook", "Yun, Se-Young"),
    "FedBABU: Toward Enhanced Representation for Federated Image Classification",
    2022,
    "International Conference on Learning Representations (ICLR)",
    "2106.06042",
)

GHOSH_2020 = Citation(
    "ghosh2020efficient",
    ("Ghosh, Avishek", "Chung, Jichan", "Yin, Dong", "Ramchandran, Kannan"),
    "An Efficient Framework for Clustered Federated Learning",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2006.04088",
)

TAN_2022 = Citation(
    "tan2022fedproto",
    (
        "Tan, Yue",
        "Long, Guodong",
        "Liu, Lu",
        "Zhou, Tianyi",
        "Lu, Qinghua",
        "Jiang, Jing",
        "Zhang, Chengqi",
    ),
    "FedProto: Federated Prototype Learning across Heterogeneous Clients",
    2022,
    "AAAI Conference on Artificial Intelligence",
    "2105.00243",
)

JEONG_2018 = Citation(
    "jeong2018communication",
    (
        "Jeong, Eunjeong",
        "Oh, Seungeun",
        "Kim, Hyesung",
        "Park, Jihong",
        "Bennis, Mehdi",
        "Kim, Seong-Lyun",
    ),
    "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation "
    "under Non-IID Private Data",
    2018,
    "arXiv preprint",
    "1811.11479",
)
