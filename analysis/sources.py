"""BibTeX of what a methods paragraph cites besides the strategies: data, partitions, behaviour."""

from __future__ import annotations


def _entry(kind: str, key: str, authors: str, title: str, year: int, **more: str) -> str:
    fields = {"author": authors, "title": title, **more, "year": str(year)}
    if "eprint" in more:
        fields["archiveprefix"] = "arXiv"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


BIBTEX = {
    "flwr": _entry(
        "misc",
        "beutel2020flower",
        "Beutel, Daniel J. and Topal, Taner and Mathur, Akhil and Qiu, Xinchi and "
        "Fernandez-Marques, Javier and Gao, Yan and Sani, Lorenzo and Li, Kwing Hei and "
        r"Parcollet, Titouan and de Gusm{\~a}o, Pedro Porto Buarque and Lane, Nicholas D.",
        "{Flower}: A Friendly Federated Learning Research Framework",
        2020,
        eprint="2007.14390",
    ),
    "ray": _entry(
        "inproceedings",
        "moritz2018ray",
        "Moritz, Philipp and Nishihara, Robert and Wang, Stephanie and Tumanov, Alexey and "
        "Liaw, Richard and Liang, Eric and Elibol, Melih and Yang, Zongheng and Paul, William and "
        "Jordan, Michael I. and Stoica, Ion",
        "{Ray}: A Distributed Framework for Emerging {AI} Applications",
        2018,
        booktitle="USENIX Symposium on Operating Systems Design and Implementation (OSDI)",
        eprint="1712.05889",
    ),
    "rank": _entry(
        "article",
        "hung2019rank",
        "Hung, Kenneth and Fithian, William",
        "Rank Verification for Exponential Families",
        2019,
        journal="The Annals of Statistics",
        eprint="1610.03944",
    ),
    "aji": _entry(
        "inproceedings",
        "aji2017sparse",
        "Aji, Alham Fikri and Heafield, Kenneth",
        "Sparse Communication for Distributed Gradient Descent",
        2017,
        booktitle="Empirical Methods in Natural Language Processing (EMNLP)",
        eprint="1704.05021",
    ),
    "stich": _entry(
        "inproceedings",
        "stich2018sparsified",
        "Stich, Sebastian U. and Cordonnier, Jean-Baptiste and Jaggi, Martin",
        "Sparsified {SGD} with Memory",
        2018,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1809.07599",
    ),
    "qsgd": _entry(
        "inproceedings",
        "alistarh2017qsgd",
        "Alistarh, Dan and Grubic, Demjan and Li, Jerry and Tomioka, Ryota and Vojnovic, Milan",
        "{QSGD}: Communication-Efficient {SGD} via Gradient Quantization and Encoding",
        2017,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1610.02132",
    ),
    "ef-sign": _entry(
        "inproceedings",
        "karimireddy2019error",
        "Karimireddy, Sai Praneeth and Rebjock, Quentin and Stich, Sebastian U. and Jaggi, Martin",
        "Error Feedback Fixes {SignSGD} and other Gradient Compression Schemes",
        2019,
        booktitle="International Conference on Machine Learning (ICML)",
        eprint="1901.09847",
    ),
    "vote": _entry(
        "inproceedings",
        "bernstein2019signsgd",
        "Bernstein, Jeremy and Zhao, Jiawei and Azizzadenesheli, Kamyar and Anandkumar, Anima",
        "{signSGD} with Majority Vote is Communication Efficient and Fault Tolerant",
        2019,
        booktitle="International Conference on Learning Representations (ICLR)",
        eprint="1810.05291",
    ),
    "terngrad": _entry(
        "inproceedings",
        "wen2017terngrad",
        "Wen, Wei and Xu, Cong and Yan, Feng and Wu, Chunpeng and Wang, Yandan and Chen, Yiran and "
        "Li, Hai",
        "{TernGrad}: Ternary Gradients to Reduce Communication in Distributed Deep Learning",
        2017,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1705.07878",
    ),
    "suresh": _entry(
        "inproceedings",
        "suresh2017distributed",
        "Suresh, Ananda Theertha and Yu, Felix X. and Kumar, Sanjiv and McMahan, H. Brendan",
        "Distributed Mean Estimation with Limited Communication",
        2017,
        booktitle="International Conference on Machine Learning (ICML)",
        eprint="1611.00429",
    ),
    "powersgd": _entry(
        "inproceedings",
        "vogels2019powersgd",
        "Vogels, Thijs and Karimireddy, Sai Praneeth and Jaggi, Martin",
        "{PowerSGD}: Practical Low-Rank Gradient Compression for Distributed Optimization",
        2019,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1905.13727",
    ),
    "fetchsgd": _entry(
        "inproceedings",
        "rothchild2020fetchsgd",
        "Rothchild, Daniel and Panda, Ashwinee and Ullah, Enayat and Ivkin, Nikita and "
        "Stoica, Ion and Braverman, Vladimir and Gonzalez, Joseph and Arora, Raman",
        "{FetchSGD}: Communication-Efficient Federated Learning with Sketching",
        2020,
        booktitle="International Conference on Machine Learning (ICML)",
        eprint="2007.07682",
    ),
    "fashion-mnist": _entry(
        "misc",
        "xiao2017fashion",
        "Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
        "{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        2017,
        eprint="1708.07747",
    ),
    "mcmahan": _entry(
        "inproceedings",
        "mcmahan2017communication",
        "McMahan, H. Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth and "
        r"Ag{\"u}era y Arcas, Blaise",
        "Communication-Efficient Learning of Deep Networks from Decentralized Data",
        2017,
        booktitle="Artificial Intelligence and Statistics (AISTATS)",
        eprint="1602.05629",
    ),
    "yurochkin": _entry(
        "inproceedings",
        "yurochkin2019bayesian",
        "Yurochkin, Mikhail and Agarwal, Mayank and Ghosh, Soumya and Greenewald, Kristjan and "
        "Hoang, Trong Nghia and Khazaeni, Yasaman",
        "Bayesian Nonparametric Federated Learning of Neural Networks",
        2019,
        booktitle="International Conference on Machine Learning (ICML)",
        eprint="1905.12022",
    ),
    "fedopt": _entry(
        "inproceedings",
        "reddi2021adaptive",
        "Reddi, Sashank J. and Charles, Zachary and Zaheer, Manzil and Garrett, Zachary and "
        r"Rush, Keith and Kone{\v{c}}n{\'y}, Jakub and Kumar, Sanjiv and McMahan, H. Brendan",
        "Adaptive Federated Optimization",
        2021,
        booktitle="International Conference on Learning Representations (ICLR)",
        eprint="2003.00295",
    ),
    "ifca": _entry(
        "inproceedings",
        "ghosh2020efficient",
        "Ghosh, Avishek and Chung, Jichan and Yin, Dong and Ramchandran, Kannan",
        "An Efficient Framework for Clustered Federated Learning",
        2020,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="2006.04088",
    ),
    "li-silos": _entry(
        "inproceedings",
        "li2022silos",
        "Li, Qinbin and Diao, Yiqun and Chen, Quan and He, Bingsheng",
        "Federated Learning on Non-{IID} Data Silos: An Experimental Study",
        2022,
        booktitle="IEEE International Conference on Data Engineering (ICDE)",
        eprint="2102.02079",
    ),
    "acar": _entry(
        "inproceedings",
        "acar2021federated",
        "Acar, Durmus Alp Emre and Zhao, Yue and Matas Navarro, Ramon and Mattina, Matthew and "
        "Whatmough, Paul N. and Saligrama, Venkatesh",
        "Federated Learning Based on Dynamic Regularization",
        2021,
        booktitle="International Conference on Learning Representations (ICLR)",
        eprint="2111.04263",
    ),
    "hsu": _entry(
        "misc",
        "hsu2019measuring",
        "Hsu, Tzu-Ming Harry and Qi, Hang and Brown, Matthew",
        "Measuring the Effects of Non-Identical Data Distribution for Federated Visual "
        "Classification",
        2019,
        eprint="1909.06335",
    ),
    "efraimidis": _entry(
        "article",
        "efraimidis2006weighted",
        "Efraimidis, Pavlos S. and Spirakis, Paul G.",
        "Weighted random sampling with a reservoir",
        2006,
        journal="Information Processing Letters",
    ),
    "cho": _entry(
        "misc",
        "cho2020client",
        "Cho, Yae Jee and Wang, Jianyu and Joshi, Gauri",
        "Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice "
        "Selection Strategies",
        2020,
        eprint="2010.01243",
    ),
    "fang": _entry(
        "inproceedings",
        "fang2020local",
        "Fang, Minghong and Cao, Xiaoyu and Jia, Jinyuan and Gong, Neil Zhenqiang",
        "Local Model Poisoning Attacks to {Byzantine}-Robust Federated Learning",
        2020,
        booktitle="USENIX Security Symposium",
        eprint="1911.11815",
    ),
    "blanchard": _entry(
        "inproceedings",
        "blanchard2017machine",
        "Blanchard, Peva and El Mhamdi, El Mahdi and Guerraoui, Rachid and Stainer, Julien",
        "Machine Learning with Adversaries: {Byzantine} Tolerant Gradient Descent",
        2017,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1703.02757",
    ),
    "rsa": _entry(
        "inproceedings",
        "li2019rsa",
        "Li, Liping and Xu, Wei and Chen, Tianyi and Giannakis, Georgios B. and Ling, Qing",
        "{RSA}: {Byzantine}-Robust Stochastic Aggregation Methods for Distributed Learning from "
        "Heterogeneous Datasets",
        2019,
        booktitle="AAAI Conference on Artificial Intelligence",
        eprint="1811.03761",
    ),
    "badnets": _entry(
        "misc",
        "gu2017badnets",
        "Gu, Tianyu and Dolan-Gavitt, Brendan and Garg, Siddharth",
        "{BadNets}: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
        2017,
        eprint="1708.06733",
    ),
    "bagdasaryan": _entry(
        "inproceedings",
        "bagdasaryan2020how",
        "Bagdasaryan, Eugene and Veit, Andreas and Hua, Yiqing and Estrin, Deborah and "
        "Shmatikov, Vitaly",
        "How To Backdoor Federated Learning",
        2020,
        booktitle="Artificial Intelligence and Statistics (AISTATS)",
        eprint="1807.00459",
    ),
    "tolpegin": _entry(
        "inproceedings",
        "tolpegin2020data",
        "Tolpegin, Vale and Truex, Stacey and Gursoy, Mehmet Emre and Liu, Ling",
        "Data Poisoning Attacks Against Federated Learning Systems",
        2020,
        booktitle="European Symposium on Research in Computer Security (ESORICS)",
        eprint="2007.08432",
    ),
    "fraboni": _entry(
        "inproceedings",
        "fraboni2021free",
        "Fraboni, Yann and Vidal, Richard and Lorenzi, Marco",
        "Free-rider Attacks on Model Aggregation in Federated Learning",
        2021,
        booktitle="Artificial Intelligence and Statistics (AISTATS)",
        eprint="2006.11901",
    ),
    "baruch": _entry(
        "inproceedings",
        "baruch2019little",
        "Baruch, Moran and Baruch, Gilad and Goldberg, Yoav",
        "A Little Is Enough: Circumventing Defenses For Distributed Learning",
        2019,
        booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
        eprint="1902.06156",
    ),
    "xie": _entry(
        "inproceedings",
        "xie2020fall",
        "Xie, Cong and Koyejo, Oluwasanmi and Gupta, Indranil",
        "Fall of Empires: Breaking {Byzantine}-Tolerant {SGD} by Inner Product Manipulation",
        2020,
        booktitle="Uncertainty in Artificial Intelligence (UAI)",
        eprint="1903.03936",
    ),
    "shejwalkar": _entry(
        "inproceedings",
        "shejwalkar2021manipulating",
        "Shejwalkar, Virat and Houmansadr, Amir",
        "Manipulating the {Byzantine}: Optimizing Model Poisoning Attacks and Defenses for "
        "Federated Learning",
        2021,
        booktitle="Network and Distributed System Security Symposium (NDSS)",
    ),
    "fedprox": _entry(
        "inproceedings",
        "li2020federated",
        "Li, Tian and Sahu, Anit Kumar and Zaheer, Manzil and Sanjabi, Maziar and "
        "Talwalkar, Ameet and Smith, Virginia",
        "Federated Optimization in Heterogeneous Networks",
        2020,
        booktitle="Machine Learning and Systems (MLSys)",
        eprint="1812.06127",
    ),
    "bonawitz": _entry(
        "inproceedings",
        "bonawitz2019towards",
        "Bonawitz, Keith and Eichner, Hubert and Grieskamp, Wolfgang and Huba, Dzmitry and "
        "Ingerman, Alex and Ivanov, Vladimir and Kiddon, Chlo{\\'e} and Kone{\\v{c}}n{\\'y}, Jakub "
        "and Mazzocchi, Stefano and McMahan, H. Brendan and Van Overveldt, Timon and "
        "Petrou, David and Ramage, Daniel and Roselander, Jason",
        "Towards Federated Learning at Scale: System Design",
        2019,
        booktitle="Machine Learning and Systems (MLSys)",
        eprint="1902.01046",
    ),
    "fedbuff": _entry(
        "inproceedings",
        "nguyen2022federated",
        "Nguyen, John and Malik, Kshitiz and Zhan, Hongyuan and Yousefpour, Ashkan and "
        "Rabbat, Mike and Malek, Mani and Huba, Dzmitry",
        "Federated Learning with Buffered Asynchronous Aggregation",
        2022,
        booktitle="Artificial Intelligence and Statistics (AISTATS)",
        eprint="2106.06639",
    ),
    "oort": _entry(
        "inproceedings",
        "lai2021oort",
        "Lai, Fan and Zhu, Xiangfeng and Madhyastha, Harsha V. and Chowdhury, Mosharaf",
        "Oort: Efficient Federated Learning via Guided Participant Selection",
        2021,
        booktitle="Operating Systems Design and Implementation (OSDI)",
        eprint="2010.06081",
    ),
    "tifl": _entry(
        "inproceedings",
        "chai2020tifl",
        "Chai, Zheng and Ali, Ahsan and Zawad, Syed and Truex, Stacey and Anwar, Ali and "
        "Baracaldo, Nathalie and Zhou, Yi and Ludwig, Heiko and Yan, Feng and Cheng, Yue",
        "TiFL: A Tier-based Federated Learning System",
        2020,
        booktitle="High-Performance Parallel and Distributed Computing (HPDC)",
        eprint="2001.09249",
    ),
    "hierfavg": _entry(
        "inproceedings",
        "liu2020client",
        "Liu, Lumin and Zhang, Jun and Song, S. H. and Letaief, Khaled B.",
        "Client-Edge-Cloud Hierarchical Federated Learning",
        2020,
        booktitle="IEEE International Conference on Communications (ICC)",
        eprint="1905.06641",
    ),
    "fedasync": _entry(
        "misc",
        "xie2019asynchronous",
        "Xie, Cong and Koyejo, Sanmi and Gupta, Indranil",
        "Asynchronous Federated Optimization",
        2019,
        eprint="1903.03934",
    ),
}
